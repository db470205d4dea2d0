package vdi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// What VirtualBox makes.
const (
	newBanner  = "<<< vdfs disk image >>>\n"
	newVersion = 0x00010001
	newBlock   = 1 << 20 // bytes
	newMapAt   = 1 << 20 // file offset of the map

	// minCapacity: VirtualBox makes 1 MiB at least, and opens any.
	minCapacity = 512
	// maxCapacity leaves the data's offset in its 32 bits: 4094 MiB of map.
	maxCapacity = (4094 << 20) / 4 * newBlock
)

// create makes an empty image that grows, or a differencing one.
func create(ctx context.Context, args vdcore.CreateArgs) error {
	h, err := newHeader(args)
	if err != nil {
		return fmt.Errorf("%s: %w", args.Path, err)
	}
	f, err := args.FS.Open(args.Path, storage.Create)
	if err != nil {
		return err
	}
	err = errors.Join(h.writeEmpty(f), f.Close())
	if err == nil {
		err = args.FS.SyncDir(filepath.Dir(args.Path))
	}
	if err != nil {
		return errors.Join(err, args.FS.Remove(args.Path))
	}
	return nil
}

func newHeader(args vdcore.CreateArgs) (*header, error) {
	if c := args.Capacity; c < minCapacity || c > maxCapacity || c%512 != 0 {
		return nil, fmt.Errorf("a VDI holds whole sectors, %d to %d bytes, not %d: %w", minCapacity, int64(maxCapacity), c, vdcore.ErrUnsupported)
	}
	mod, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	blocks := (args.Capacity + newBlock - 1) / newBlock
	h := &header{
		Banner: newBanner, Version: newVersion, HeaderSize: headerLong, Type: typeDynamic,
		OffMap: newMapAt, OffData: uint64(newMapAt + (4*blocks+newBlock-1)&^(newBlock-1)),
		PCHS: geometry{SectorSize: 512}, DiskSize: uint64(args.Capacity), BlockSize: newBlock, Blocks: uint32(blocks),
		UUID: args.UUID, ModUUID: mod, LCHS: &geometry{SectorSize: 512},
	}
	if args.Parent == nil {
		return h, nil
	}
	parent := args.Parent.Info
	if parent.UUID == uuid.Nil {
		return nil, fmt.Errorf("a VDI child names its parent by UUID, which a %s without one does not offer; use a .vmdk overlay: %w", parent.Format, vdcore.ErrUnsupported)
	}
	h.Type, h.ParentUUID, h.ParentModify = typeDiff, parent.UUID, parent.ModUUID
	h.LCHS.Cylinders, h.LCHS.Heads, h.LCHS.Sectors = parent.LCHS.Cylinders, parent.LCHS.Heads, parent.LCHS.Sectors
	return h, nil
}

// writeEmpty writes the header last: without it the file is no image yet.
func (h *header) writeEmpty(f storage.File) error {
	free := bytes.Repeat([]byte{0xFF}, 4*int(min(int64(h.Blocks), newBlock/4)))
	end := int64(h.OffMap) + 4*int64(h.Blocks)
	for at := int64(h.OffMap); at < end; at += int64(len(free)) {
		if _, err := f.WriteAt(free[:min(int64(len(free)), end-at)], at); err != nil {
			return err
		}
	}
	if err := f.Truncate(int64(h.OffData)); err != nil {
		return err
	}
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	return f.Sync()
}

// encode is the header of version 1.1 with LCHS.
func (h *header) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, sigOffset, 72+headerLong)
	copy(b, h.Banner)
	b = le.AppendUint32(b, signature)
	for _, v := range []uint32{h.Version, h.HeaderSize, h.Type, h.Flags} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, make([]byte, 256)...) // no comment
	b = le.AppendUint32(b, uint32(h.OffMap))
	b = le.AppendUint32(b, uint32(h.OffData))
	b = h.PCHS.encode(b)
	b = le.AppendUint32(b, 0) // once a BIOS translation mode
	b = le.AppendUint64(b, h.DiskSize)
	for _, v := range []uint32{h.BlockSize, h.BlockExtra, h.Blocks, h.Allocated} {
		b = le.AppendUint32(b, v)
	}
	for _, id := range []uuid.UUID{h.UUID, h.ModUUID, h.ParentUUID, h.ParentModify} {
		id = swap(id)
		b = append(b, id[:]...)
	}
	return h.LCHS.encode(b)
}

func (g geometry) encode(b []byte) []byte {
	for _, v := range []uint32{g.Cylinders, g.Heads, g.Sectors, g.SectorSize} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}
