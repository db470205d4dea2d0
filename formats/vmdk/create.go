package vmdk

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// The shape of new images, VirtualBox's.
const (
	newGrain       = 128 // sectors
	newEntries     = 512 // of a table
	newTableSize   = newEntries * 4 / sector
	newDescriptor  = 1          // sector of the descriptor
	newRoom        = 20         // sectors it has
	newPiece       = 2047 << 20 // bytes of a piece of a split image
	newCapacityMax = 256<<40 - 64<<10
	maxPieces      = 1000     // VirtualBox reads 1100 lines of a descriptor
	dirChunk       = 64 << 10 // bytes of a directory written at a time
)

// shape is how a variant is made.
type shape struct {
	vdcore.Making
	kind   string // of its extents: typeSparse …
	access string
	suffix string // of the extents' names; "" puts the descriptor into the only one
	piece  int64  // bytes of an extent at most; 0: one extent
}

// shapes are the images that can be made. "flat" is another word for "fixed".
var shapes = []shape{
	{making("dynamic", "monolithicSparse", 0), typeSparse, accessWrite, "", 0},
	{making("fixed", "monolithicFlat", vdcore.FlagFixed), typeFlat, accessWrite, "-flat", 0},
	{making("flat", "monolithicFlat", vdcore.FlagFixed), typeFlat, accessWrite, "-flat", 0},
	{making("split2g", "twoGbMaxExtentSparse", vdcore.FlagSplit), typeSparse, accessWrite, "-s%03d", newPiece},
	{making("split2g-flat", "twoGbMaxExtentFlat", vdcore.FlagSplit|vdcore.FlagFixed), typeFlat, accessWrite, "-f%03d", newPiece},
	{making("stream", streamKind, vdcore.FlagStream), typeSparse, accessRead, "", 0},
	{making("esx", "vmfs", vdcore.FlagESX|vdcore.FlagFixed), typeVMFS, accessWrite, "-flat", 0},
	{making(vdcore.Differencing, "monolithicSparse", vdcore.FlagDiff), typeSparse, accessWrite, "", 0},
}

func making(name, createType string, flags vdcore.ImageFlags) vdcore.Making {
	options := []string{vdcore.OptUUID, vdcore.OptComment, vdcore.OptGeometry, vdcore.OptLCHS}
	return vdcore.Making{Name: name, Variant: createType, Flags: flags, Options: options}
}

func makes() (list []vdcore.Making) {
	for _, s := range shapes {
		list = append(list, s.Making)
	}
	return list
}

// create makes an empty image. The file that is opened by its name comes first, so
// that an image that is there already is seen at once, and is filled last.
func create(ctx context.Context, args vdcore.CreateArgs) error {
	p, err := newPlan(args)
	if err != nil {
		return fmt.Errorf("create %s: %w", args.Path, err)
	}
	files := vdcore.MakeFiles(args.FS)
	f, err := files.Add(args.Path)
	if err == nil {
		err = p.make(ctx, files, f)
	}
	if err = files.Finish(err); err != nil {
		return fmt.Errorf("create %s: %w", args.Path, err)
	}
	return nil
}

// plan is an image that is to be made.
type plan struct {
	shape
	args    vdcore.CreateArgs
	extents []extentLine
	text    []byte // the descriptor
}

func newPlan(args vdcore.CreateArgs) (*plan, error) {
	m, err := args.Choose(makes())
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(shapes, func(s shape) bool { return s.Name == m.Name })
	p := &plan{shape: shapes[i], args: args}
	if err := p.cut(); err != nil {
		return nil, err
	}
	p.text, err = p.describe()
	return p, err
}

// cut makes the extent lines.
func (p *plan) cut() error {
	size := p.args.Capacity
	if size <= 0 || size%sector != 0 || size > newCapacityMax {
		return fmt.Errorf("a VMDK of %d bytes: a multiple of %d up to %d is possible: %w", size, sector, int64(newCapacityMax), vdcore.ErrUnsupported)
	}
	if p.piece > 0 && size > maxPieces*p.piece {
		return fmt.Errorf("a VMDK of %d bytes in pieces of %d: up to %d of them are possible: %w", size, p.piece, maxPieces, vdcore.ErrUnsupported)
	}
	for left := size; left > 0; {
		n := left
		if p.piece > 0 {
			n = min(n, p.piece)
		}
		line := extentLine{Access: p.access, Sectors: n / sector, Type: p.kind, Name: p.extentName(len(p.extents) + 1)}
		p.extents = append(p.extents, line)
		left -= n
	}
	return nil
}

// extentName is the name of the n-th extent file.
func (p *plan) extentName(n int) string {
	base := filepath.Base(p.args.Path)
	if p.suffix == "" {
		return base
	}
	suffix := p.suffix
	if p.piece > 0 {
		suffix = fmt.Sprintf(suffix, n)
	}
	return strings.TrimSuffix(base, filepath.Ext(base)) + suffix + ".vmdk"
}

// make fills the files, f being the one that is opened.
func (p *plan) make(ctx context.Context, files *vdcore.NewFiles, f storage.File) error {
	switch {
	case p.suffix != "":
		return p.makeExtents(ctx, files, f)
	case p.Flags&vdcore.FlagStream != 0:
		return p.layStream(f)
	}
	return lay(ctx, f, newHeader(p.args.Capacity, newRoom), p.text)
}

// makeExtents makes the files the lines name, and then writes the descriptor.
func (p *plan) makeExtents(ctx context.Context, files *vdcore.NewFiles, f storage.File) error {
	told := vdcore.Tell(p.args.Progress, p.args.Capacity)
	for _, line := range p.extents {
		x, err := files.Add(filepath.Join(filepath.Dir(p.args.Path), line.Name))
		if err != nil {
			return err
		}
		if line.flat() {
			err = layFlat(ctx, x, line.bytes(), told)
		} else {
			err = lay(ctx, x, newHeader(line.bytes(), 0), nil)
		}
		if err != nil {
			return err
		}
	}
	if _, err := f.WriteAt(p.text, 0); err != nil {
		return err
	}
	return f.Sync()
}

func layFlat(ctx context.Context, f storage.File, size int64, told func(n int64)) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := vdcore.TakeSpace(ctx, f, 0, size, told); err != nil {
		return err
	}
	return f.Sync()
}

// lay writes a sparse extent, the header last: without it a half-made file is none.
// All its tables are there from the start, as holes.
func lay(ctx context.Context, f storage.File, h *hostedHeader, text []byte) error {
	if err := f.Truncate(int64(h.Overhead) * sector); err != nil {
		return err
	}
	if _, err := f.WriteAt(text, newDescriptor*sector); err != nil {
		return err
	}
	for _, dir := range []uint64{h.SpareDirectory, h.Directory} {
		if err := writeDirectory(ctx, f, int64(dir), int64(h.entries())); err != nil {
			return err
		}
	}
	return h.seal(f)
}

// seal writes the header, when all else is on the disk.
func (h *hostedHeader) seal(f storage.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.WriteAt(h.bytes(), 0); err != nil {
		return err
	}
	return f.Sync()
}

// newHeader lays out an extent: header, room for a descriptor (sectors, 0 for none),
// redundant directory and its tables, directory and its tables, grains.
func newHeader(capacity int64, room uint64) *hostedHeader {
	h := &hostedHeader{
		Version: 1, Flags: flagNewlines | flagSpare,
		Capacity: wholeGrains(capacity), GrainSize: newGrain, DescriptorSize: room, EntriesPerTable: newEntries,
	}
	if room > 0 {
		h.DescriptorOffset = newDescriptor
	}
	set := uint64(directorySectors(int64(h.entries()))) + h.entries()*newTableSize
	h.SpareDirectory = 1 + room
	h.Directory = h.SpareDirectory + set
	h.Overhead = (h.Directory + set + newGrain - 1) / newGrain * newGrain
	return h
}

// wholeGrains is a size, given in bytes, in sectors and rounded up.
func wholeGrains(size int64) uint64 {
	return uint64(size+newGrain*sector-1) / (newGrain * sector) * newGrain
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
	le.PutUint16(b[77:], h.Compression)
	return b
}

// writeDirectory writes a directory whose tables follow it.
func writeDirectory(ctx context.Context, f storage.File, at, entries int64) error {
	first := at + directorySectors(entries)
	for t := int64(0); t < entries; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
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
