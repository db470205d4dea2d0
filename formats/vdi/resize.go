package vdi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const mapAlign = 4 << 10 // of a map that moves, bytes

var _ vdcore.Resizer = (*writer)(nil)

// layout is where map and data lie for a number of blocks.
type layout struct {
	offMap, offData int64
	skip            int64 // slots the data begin later
}

// CanResize: the map must fit before the data, and both within 32 bits. In version
// 0.2 the data begin where the map ends, wherever that is.
func (w *writer) CanResize(capacity int64) error {
	if capacity < minCapacity || capacity%512 != 0 {
		return fmt.Errorf("a VDI holds whole sectors, not %d bytes: %w", capacity, vdcore.ErrUnsupported)
	}
	blocks := w.blocksOf(capacity)
	switch l := w.layoutFor(blocks); {
	case w.header.Version == version0 && blocks != int64(w.header.Blocks):
		return fmt.Errorf("a VDI of version 0.2 keeps its %d blocks of %d bytes: %w; copy it to a new image", w.header.Blocks, w.header.BlockSize, vdcore.ErrUnsupported)
	case blocks > maxBlocks, l.offData > math.MaxUint32:
		return fmt.Errorf("a block map for %d blocks of %d bytes is larger than a VDI can have: %w", blocks, w.header.BlockSize, vdcore.ErrUnsupported)
	}
	return nil
}

// maxBlocks leaves the entries that mean zero and free.
const maxBlocks = entryZero - 1

func (w *writer) blocksOf(capacity int64) int64 {
	return (capacity + int64(w.header.BlockSize) - 1) / int64(w.header.BlockSize)
}

// layoutFor finds room for the map: where it is, before it, or behind it, where the
// first slots lie. There it must not touch the old one, which counts until the header
// tells of the new.
func (w *writer) layoutFor(blocks int64) layout {
	h, n := w.header, 4*blocks
	l := layout{offMap: int64(h.OffMap), offData: int64(h.OffData)}
	head := (72 + int64(h.HeaderSize) + headerRead - 1) / headerRead * headerRead
	switch {
	case l.offMap+n <= l.offData:
	case head+n <= l.offMap:
		l.offMap = head
	default:
		l.offMap = (l.offMap + 4*int64(h.Blocks) + mapAlign - 1) / mapAlign * mapAlign
		l.skip = (l.offMap + n - l.offData + h.slotSize() - 1) / h.slotSize()
		l.offData += l.skip * h.slotSize()
	}
	return l
}

// Resize prepares all that the new header leads to where the old one does not, and
// then writes the header, which lies in one sector.
func (w *writer) Resize(ctx context.Context, _ storage.FS, capacity int64, progress func(done, total int64)) error {
	do := w.shrink
	if capacity > w.info.Capacity {
		do = w.grow
	}
	err := do(ctx, capacity, progress)
	w.stopped = ctx.Err() != nil
	return err
}

// grow makes room for the map and writes it.
func (w *writer) grow(ctx context.Context, capacity int64, progress func(done, total int64)) error {
	blocks := w.blocksOf(capacity)
	l := w.layoutFor(blocks)
	if w.end > int64(w.header.Blocks) { // left by an earlier try, perhaps for another capacity
		if err := w.closeGaps(ctx, int64(w.header.Blocks), progress); err != nil {
			return err
		}
	}
	if err := w.zeroTail(); err != nil {
		return err
	}
	if err := w.moveFront(ctx, l.skip, progress); err != nil {
		return err
	}
	if err := w.preallocate(ctx, l, blocks, progress); err != nil {
		return err
	}
	if err := w.writeMap(l, blocks); err != nil {
		return err
	}
	if err := w.file.DataSync(); err != nil {
		return err
	}
	return w.flip(l, capacity)
}

// zeroTail makes zeros of what the last block has behind the end of the disk: it is
// about to be seen.
func (w *writer) zeroTail() error {
	u := w.Unit(w.info.Capacity - 1)
	held, err := w.Map(nil, u.Off, u.Len)
	if err != nil || held[0].Kind != vdcore.Data {
		return err
	}
	return storage.Zero(w.file, held[0].Pos+u.Len, int64(w.header.BlockSize)-u.Len)
}

// moveFront moves the blocks in the first slots to the lowest free ones behind, or to
// the end. For a moment that may be more slots than blocks, which keeps VirtualBox from
// opening the image, and from writing over them.
func (w *writer) moveFront(ctx context.Context, skip int64, progress func(done, total int64)) error {
	if skip == 0 {
		return nil
	}
	refs, err := w.references()
	if err != nil {
		return err
	}
	w.taken, w.low = refs, skip
	m := &mover{writer: w, ctx: ctx, progress: progress, total: refs.countBelow(skip)}
	var moves []move
	if err := w.entries(func(slot uint32, block, _ int64) error {
		if int64(slot) < skip {
			to := max(w.taken.nextClear(w.low, w.end), w.low)
			w.take(to)
			w.low = to + 1
			moves = append(moves, move{block, slot, uint32(to)})
		}
		return nil
	}); err != nil || len(moves) == 0 {
		return err
	}
	// The file and the count reach to the last slot before an entry does.
	if end := w.position(w.end); w.size < end {
		if err := w.file.Truncate(end); err != nil {
			return err
		}
		w.size = end
	}
	if err := w.writeHeader(max(w.count, w.end), w.mod); err != nil {
		return err
	}
	for batch := range slices.Chunk(moves, m.batch()) {
		if err = m.move(batch); err != nil {
			break
		}
	}
	return errors.Join(err, m.finish())
}

// preallocate has the file reach to the end of the new blocks of a fixed image.
func (w *writer) preallocate(ctx context.Context, l layout, blocks int64, progress func(done, total int64)) error {
	if w.header.Type != typeFixed {
		return nil
	}
	from, end := l.offData+int64(w.header.Blocks)*w.header.slotSize(), l.offData+blocks*w.header.slotSize()
	if from >= end {
		return nil
	}
	if err := storage.Zero(w.file, from, end-from); err != nil { // an earlier try may have left something
		return err
	}
	if err := w.file.Truncate(end); err != nil {
		return err
	}
	w.size = end
	return vdcore.TakeSpace(ctx, w.file, from, end-from, vdcore.Tell(progress, end-from))
}

// writeMap writes the new map, or, if that stays, the part that is new of it.
func (w *writer) writeMap(l layout, blocks int64) error {
	old, first := int64(w.header.Blocks), int64(0)
	if l.offMap == int64(w.header.OffMap) {
		first = old
	}
	buf := make([]byte, 0, 4*chunkEntries)
	for first < blocks {
		buf = buf[:4*min(chunkEntries, blocks-first)]
		if n := min(old-first, int64(len(buf)/4)); n > 0 {
			if err := w.tables.ReadAt(w.file, buf[:4*n], int64(w.header.OffMap)+4*first); err != nil {
				return err
			}
		}
		for k := range int64(len(buf) / 4) {
			w.renumber(buf[4*k:], first+k, l.skip)
		}
		if err := w.tables.WriteAt(w.file, buf, l.offMap+4*first); err != nil {
			return err
		}
		first += int64(len(buf) / 4)
	}
	return nil
}

// renumber makes an entry of the old map one of the new, or makes one up.
func (w *writer) renumber(b []byte, block, skip int64) {
	entry := binary.LittleEndian.Uint32(b)
	switch {
	case block >= int64(w.header.Blocks) && w.header.Type == typeFixed:
		entry = uint32(block)
	case block >= int64(w.header.Blocks):
		entry = entryFree
	case entry < entryZero:
		entry -= uint32(skip)
	}
	binary.LittleEndian.PutUint32(b, entry)
}

// flip writes what a new capacity changes of the header, in one sector, and makes it
// durable.
func (w *writer) flip(l layout, capacity int64) error {
	h := *w.header
	h.OffMap, h.OffData, h.DiskSize, h.Blocks = uint64(l.offMap), uint64(l.offData), uint64(capacity), uint32(w.blocksOf(capacity))
	count := min(max(w.end-l.skip, 0), int64(h.Blocks))
	if h.Type == typeFixed {
		count = int64(h.Blocks)
	}
	h.resizeGeometry(capacity)
	b := make([]byte, headerRead)
	if err := storage.ReadFull(w.file, b, 0); err != nil {
		return err
	}
	h.Allocated = uint32(count)
	h.patchSize(b)
	if _, err := w.file.WriteAt(b, 0); err != nil {
		return err
	}
	if err := w.file.DataSync(); err != nil {
		return err
	}
	w.header, w.count = &h, count
	w.end = max(w.end-l.skip, 0)
	w.limit = min(int64(h.Blocks), maxSlots)
	return nil
}

// patchSize writes into the sector of the header what a new capacity changes.
func (h *header) patchSize(b []byte) {
	le := binary.LittleEndian
	if h.Version == version0 {
		le.PutUint64(b[352:], h.DiskSize)
		copy(b[336:352], h.PCHS.encode(nil))
		return
	}
	le.PutUint32(b[340:], uint32(h.OffMap))
	le.PutUint32(b[344:], uint32(h.OffData))
	copy(b[348:364], h.PCHS.encode(nil))
	le.PutUint64(b[368:], h.DiskSize)
	le.PutUint32(b[384:], h.Blocks)
	le.PutUint32(b[388:], h.Allocated)
	if h.LCHS != nil {
		copy(b[456:472], h.LCHS.encode(nil))
	}
}

// resizeGeometry keeps what is unset unset, and unsets what makes no sense.
func (h *header) resizeGeometry(capacity int64) {
	if h.PCHS.Cylinders != 0 {
		h.PCHS = geometryOf(vdcore.PhysicalGeometry(capacity))
	}
	if h.LCHS != nil {
		g := geometryOf(h.LCHS.core().Resized(capacity))
		h.LCHS = &g
	}
}

func geometryOf(g vdcore.Geometry) geometry {
	return geometry{g.Cylinders, g.Heads, g.Sectors, 512}
}

// shrink frees the entries that are cut off, and closes the gaps, so that no slot
// number is beyond the blocks that stay.
func (w *writer) shrink(ctx context.Context, capacity int64, progress func(done, total int64)) error {
	blocks := w.blocksOf(capacity)
	if err := w.freeFrom(blocks); err != nil {
		return err
	}
	if err := w.closeGaps(ctx, blocks, progress); err != nil {
		return err
	}
	l := layout{offMap: int64(w.header.OffMap), offData: int64(w.header.OffData)}
	return w.flip(l, capacity)
}

// freeFrom makes the blocks from one on zeros, which they are, and waits for the disk.
func (w *writer) freeFrom(first int64) error {
	var blocks []int64
	if err := w.entries(func(_ uint32, block, _ int64) error {
		if block >= first {
			blocks = append(blocks, block)
		}
		return nil
	}); err != nil || len(blocks) == 0 {
		return err
	}
	for _, block := range blocks {
		if err := w.writeEntries(block, binary.LittleEndian.AppendUint32(nil, entryZero)); err != nil {
			return err
		}
	}
	return w.file.DataSync()
}
