package vmdk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// The shape of new images, VirtualBox's.
const (
	newGrain       = 128 // sectors
	newEntries     = 512 // of a table
	newTableSize   = newEntries * 4 / sector
	newDescriptor  = 1  // sector of the descriptor
	newRoom        = 20 // sectors it has
	newCapacityMax = 256<<40 - 64<<10
	dirChunk       = 64 << 10 // bytes of a directory written at a time
)

// create makes a monolithicSparse image, the one kind that every tool writes to. All
// its tables are there from the start, as holes.
func create(ctx context.Context, args vdcore.CreateArgs) error {
	text, err := newText(args)
	if err != nil {
		return err
	}
	f, err := args.FS.Open(args.Path, storage.Create)
	if err != nil {
		return err
	}
	err = errors.Join(lay(f, args.Capacity, text), f.Close())
	if err == nil {
		err = args.FS.SyncDir(filepath.Dir(args.Path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("create %s: %w", args.Path, err), args.FS.Remove(args.Path))
	}
	return nil
}

// lay writes the image, the header last: without it a half-made file is none.
func lay(f storage.File, capacity int64, text []byte) error {
	h := newHeader(capacity)
	if err := f.Truncate(int64(h.Overhead) * sector); err != nil {
		return err
	}
	if _, err := f.WriteAt(text, newDescriptor*sector); err != nil {
		return err
	}
	for _, dir := range []uint64{h.SpareDirectory, h.Directory} {
		if err := writeDirectory(f, int64(dir), int64(h.entries())); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.WriteAt(h.bytes(), 0); err != nil {
		return err
	}
	return f.Sync()
}

// newHeader lays out an image: header, descriptor, redundant directory and its
// tables, directory and its tables, grains.
func newHeader(capacity int64) *hostedHeader {
	h := &hostedHeader{
		Version: 1, Flags: flagNewlines | flagSpare,
		Capacity: uint64(capacity+newGrain*sector-1) / (newGrain * sector) * newGrain, GrainSize: newGrain,
		DescriptorOffset: newDescriptor, DescriptorSize: newRoom, EntriesPerTable: newEntries,
	}
	set := uint64(directorySectors(int64(h.entries()))) + h.entries()*newTableSize
	h.SpareDirectory = newDescriptor + newRoom
	h.Directory = h.SpareDirectory + set
	h.Overhead = (h.Directory + set + newGrain - 1) / newGrain * newGrain
	return h
}

func directorySectors(entries int64) int64 { return (entries*4 + sector - 1) / sector }

// bytes is the header as it is on disk.
func (h *hostedHeader) bytes() []byte {
	b, le := make([]byte, hostedHeaderSize), binary.LittleEndian
	copy(b, hostedMagic)
	le.PutUint32(b[4:], h.Version)
	le.PutUint32(b[flagsAt:], h.Flags)
	le.PutUint64(b[12:], h.Capacity)
	le.PutUint64(b[20:], h.GrainSize)
	le.PutUint64(b[28:], h.DescriptorOffset)
	le.PutUint64(b[36:], h.DescriptorSize)
	le.PutUint32(b[44:], h.EntriesPerTable)
	le.PutUint64(b[48:], h.SpareDirectory)
	le.PutUint64(b[56:], h.Directory)
	le.PutUint64(b[64:], h.Overhead)
	b[uncleanAt] = h.Unclean
	copy(b[73:], newlineCheck)
	return b
}

// writeDirectory writes a directory whose tables follow it.
func writeDirectory(f storage.File, at, entries int64) error {
	first := at + directorySectors(entries)
	for t := int64(0); t < entries; {
		var chunk []byte
		start := t
		for ; t < entries && len(chunk) < dirChunk; t++ {
			chunk = binary.LittleEndian.AppendUint32(chunk, uint32(first+t*newTableSize))
		}
		if _, err := f.WriteAt(chunk, at*sector+start*4); err != nil {
			return err
		}
	}
	return nil
}

// newText is the descriptor, as VirtualBox writes it. A parent is named in both
// worlds as far as it has a name there.
func newText(args vdcore.CreateArgs) ([]byte, error) {
	base, of := filepath.Base(args.Path), parentWords(args.Parent)
	switch {
	case args.Capacity <= 0 || args.Capacity%sector != 0 || args.Capacity > newCapacityMax:
		return nil, fmt.Errorf("a VMDK of %d bytes: a multiple of %d up to %d is possible: %w", args.Capacity, sector, int64(newCapacityMax), vdcore.ErrUnsupported)
	case strings.ContainsFunc(base, unquotable) || strings.ContainsFunc(of.hint, unquotable):
		return nil, fmt.Errorf("the names %q and %q: one cannot be written into a descriptor: %w", base, of.hint, vdcore.ErrUnsupported)
	}
	mod, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	cid, err := newCID(8, 0)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=%08x\n", cid, of.cid)
	if of.hint != "" {
		fmt.Fprintf(&b, "parentFileNameHint=\"%s\"\n", of.hint)
	}
	fmt.Fprintf(&b, "createType=\"monolithicSparse\"\n\n# Extent description\nRW %d SPARSE \"%s\"\n\n", args.Capacity/sector, base)
	b.WriteString("# The disk Data Base \n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.adapterType=\"ide\"\n")
	writeGeometry(&b, args)
	fmt.Fprintf(&b, "ddb.uuid.image=\"%s\"\nddb.uuid.modification=\"%s\"\nddb.uuid.parent=\"%s\"\nddb.uuid.parentmodification=\"%s\"\n",
		args.UUID, mod, of.id, of.mod)
	if b.Len() > newRoom*sector {
		return nil, fmt.Errorf("names too long for the descriptor: %w", vdcore.ErrUnsupported)
	}
	return []byte(b.String()), nil
}

// unquotable characters would end a quoted name; there is no escape for them.
func unquotable(r rune) bool { return r == '"' || r < ' ' || r == 0x7F }

// words are what a child says of its parent.
type words struct {
	cid     uint32
	hint    string
	id, mod uuid.UUID
}

// parentWords names a parent by its UUID, for VirtualBox, and by CID and file name,
// for QEMU and VMware. One that only has a UUID is none of theirs, and a name
// alone is better than nothing: an image with a parent must not pass for a base.
func parentWords(p *vdcore.CreateParent) words {
	w := words{cid: vdcore.NoParentCID}
	if p == nil {
		return w
	}
	w.id = p.Info.UUID
	if w.id != uuid.Nil {
		w.mod = p.Info.ModUUID
	}
	if p.Info.HasCID {
		w.cid = p.Info.CID
	}
	if p.Info.HasCID || w.id == uuid.Nil {
		w.hint = p.Hint
	}
	return w
}

// writeGeometry writes the parent's geometry, or what is usual.
func writeGeometry(b *strings.Builder, args vdcore.CreateArgs) {
	const heads, sectors = 16, 63
	physical := vdcore.Geometry{Cylinders: uint32(min(16383, args.Capacity/sector/(heads*sectors))), Heads: heads, Sectors: sectors}
	var logical vdcore.Geometry
	if p := args.Parent; p != nil {
		logical = p.Info.LCHS
		if p.Info.PCHS.Cylinders != 0 {
			physical = p.Info.PCHS
		}
	}
	put := func(key string, v uint32) { fmt.Fprintf(b, "ddb.geometry.%s=\"%d\"\n", key, v) }
	put("cylinders", physical.Cylinders)
	put("heads", physical.Heads)
	put("sectors", physical.Sectors)
	if logical.Cylinders != 0 {
		put("biosCylinders", logical.Cylinders)
		put("biosHeads", logical.Heads)
		put("biosSectors", logical.Sectors)
	}
}
