package vdi

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"

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
	newAlign   = 1 << 20 // the data begin at a multiple

	leastNewBlock = 512 << 10 // bytes, VirtualBox's limits for new images
	mostNewBlock  = 8 << 20

	// minCapacity: VirtualBox makes 1 MiB at least, and opens any.
	minCapacity = 512
	// maxCapacity is VirtualBox's limit. With small blocks maxMap comes first.
	maxCapacity = 4<<50 - 3<<20
	// maxMap leaves the data's offset in its 32 bits.
	maxMap = 4094 << 20 // bytes
)

// makes are the images that can be made.
var makes = []vdcore.Making{
	{Name: "dynamic", Variant: "dynamic", Options: options},
	{Name: "fixed", Variant: "fixed", Flags: vdcore.FlagFixed, Options: options},
	{Name: vdcore.Differencing, Variant: "differencing", Flags: vdcore.FlagDiff, Options: options},
}

var options = []string{vdcore.OptBlockSize, vdcore.OptUUID, vdcore.OptComment, vdcore.OptGeometry, vdcore.OptLCHS}

// create makes an empty image that grows, a preallocated or a differencing one.
func create(ctx context.Context, args vdcore.CreateArgs) error {
	h, err := newHeader(args)
	if err != nil {
		return fmt.Errorf("create %s: %w", args.Path, err)
	}
	files := vdcore.MakeFiles(args.FS)
	f, err := files.Add(args.Path)
	if err == nil {
		err = h.lay(ctx, f, args.Progress)
	}
	if err = files.Finish(err); err != nil {
		return fmt.Errorf("create %s: %w", args.Path, err)
	}
	return nil
}

func newHeader(args vdcore.CreateArgs) (*header, error) {
	m, err := args.Choose(makes)
	if err != nil {
		return nil, err
	}
	block, err := newBlockSize(args)
	if err != nil {
		return nil, err
	}
	if err := checkComment(args.Comment); err != nil {
		return nil, err
	}
	mod, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	blocks := (args.Capacity + block - 1) / block
	h := &header{
		Banner: newBanner, Version: newVersion, HeaderSize: headerLong, Type: typeDynamic, Comment: args.Comment,
		OffMap: newMapAt, OffData: uint64(newMapAt + (4*blocks+newAlign-1)&^(newAlign-1)),
		PCHS: stored(args.PCHS), DiskSize: uint64(args.Capacity), BlockSize: uint32(block), Blocks: uint32(blocks),
		UUID: args.UUID, ModUUID: mod,
	}
	lchs := stored(args.LCHS)
	h.LCHS = &lchs
	if m.Flags&vdcore.FlagFixed != 0 {
		h.Type, h.Allocated = typeFixed, h.Blocks
	}
	return h, h.child(args)
}

// newBlockSize is the block size asked for, when the disk can be made of such blocks.
func newBlockSize(args vdcore.CreateArgs) (int64, error) {
	block := cmp.Or(args.BlockSize, newBlock)
	if block < leastNewBlock || block > mostNewBlock || block&(block-1) != 0 {
		return 0, fmt.Errorf("a block of %d bytes: a power of two from %d to %d is possible: %w", block, leastNewBlock, mostNewBlock, vdcore.ErrUnsupported)
	}
	most := min(maxCapacity, maxMap/4*block)
	if c := args.Capacity; c < minCapacity || c > most || c%512 != 0 {
		return 0, fmt.Errorf("a VDI with blocks of %d bytes holds whole sectors of 512, %d to %d bytes, not %d: %w", block, minCapacity, most, c, vdcore.ErrUnsupported)
	}
	return block, nil
}

// child makes the header that of a differencing image, if it has a parent.
func (h *header) child(args vdcore.CreateArgs) error {
	if args.Parent == nil {
		return nil
	}
	parent := args.Parent.Info
	if parent.UUID == uuid.Nil {
		return fmt.Errorf("a VDI child names its parent by UUID, which a %s without one does not offer; use a .vmdk overlay: %w", parent.Format, vdcore.ErrUnsupported)
	}
	h.Type, h.ParentUUID, h.ParentModify = typeDiff, parent.UUID, parent.ModUUID
	if args.LCHS == (vdcore.Geometry{}) {
		*h.LCHS = stored(parent.LCHS)
	}
	return nil
}

// stored is a geometry as the header has it.
func stored(g vdcore.Geometry) geometry {
	return geometry{Cylinders: g.Cylinders, Heads: g.Heads, Sectors: g.Sectors, SectorSize: 512}
}

// lay writes the image, the header last, when all else is on the disk: without it the
// file is no image yet.
func (h *header) lay(ctx context.Context, f storage.File, progress func(done, total int64)) error {
	if err := h.layMap(ctx, f); err != nil {
		return err
	}
	size := int64(h.Allocated) * h.slotSize()
	if err := f.Truncate(int64(h.OffData) + size); err != nil {
		return err
	}
	if err := vdcore.TakeSpace(ctx, f, int64(h.OffData), size, vdcore.Tell(progress, size)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	return f.Sync()
}

// layMap writes the map: slot n for block n where all are allocated, else free.
func (h *header) layMap(ctx context.Context, f storage.File) error {
	chunk := make([]byte, 0, newAlign)
	for n := uint32(0); n < h.Blocks; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		at := int64(h.OffMap) + 4*int64(n)
		for chunk = chunk[:0]; n < h.Blocks && len(chunk) < cap(chunk); n++ {
			entry := uint32(entryFree)
			if n < h.Allocated {
				entry = n
			}
			chunk = binary.LittleEndian.AppendUint32(chunk, entry)
		}
		if _, err := f.WriteAt(chunk, at); err != nil {
			return err
		}
	}
	return nil
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
	b = append(b, make([]byte, maxComment+1)...)
	copy(b[commentAt:], h.Comment)
	b = le.AppendUint32(b, uint32(h.OffMap))
	b = le.AppendUint32(b, uint32(h.OffData))
	b = h.PCHS.encode(b)
	b = le.AppendUint32(b, h.Translation)
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
