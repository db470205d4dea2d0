package vdi

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// writer is an image opened for writing.
type writer struct {
	*image
	slots
	count int64     // blocks allocated, as the header on disk says
	mod   uuid.UUID // modification UUID, likewise
	// stopped: closing the gaps was given up, and Finish leaves them.
	stopped bool
}

var (
	_ vdcore.Writer    = (*writer)(nil)
	_ vdcore.Compacter = (*writer)(nil)
)

func newWriter(i *image, s *scanner) *writer {
	return &writer{
		image: i,
		slots: slots{taken: s.slots, end: s.end, limit: min(int64(i.header.Blocks), maxSlots)},
		count: int64(i.header.Allocated),
		mod:   i.header.ModUUID,
	}
}

// refuseWrite says why a scanned image must not be written.
func (i *image) refuseWrite(s *scanner) error {
	h := i.header
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format+"; --overlay writes to a new image on top of it", append([]any{vdcore.ErrReadOnly}, args...)...)
	}
	switch {
	case len(i.info.Damage) > 0:
		return vdcore.Unsound(i.info.Damage[0].Err)
	case s.shared > 0:
		return vdcore.Unsound(fmt.Errorf("%w: %d blocks share their slot with another (the first is block %d), and writing to one would change the other", vdcore.ErrCorrupt, s.shared, s.first))
	case h.OffMap%4 != 0:
		return refuse("the block map begins at %d, so that an entry may lie in two sectors and a power cut may tear it", h.OffMap)
	case int64(h.Blocks) > h.need():
		return refuse("the block map has %d entries for a disk of %d blocks, and what the rest leads to is unknown", h.Blocks, h.need())
	case i.slotsInFile() > maxSlots:
		return refuse("the file has room for %d blocks, more than are kept track of", i.slotsInFile())
	}
	return nil
}

func (w *writer) Unit(off int64) vdcore.Unit {
	size := int64(w.header.BlockSize)
	start := off - off%size
	return vdcore.Unit{Off: start, Len: min(size, w.info.Capacity-start)}
}

// Can: a fixed image keeps its blocks, so that it stays fixed.
func (w *writer) Can(kind vdcore.Kind) bool {
	return w.header.Type != typeFixed && (kind == vdcore.Free || kind == vdcore.Zero)
}

// Begin cuts off what lies behind the last slot, sets the header's count right, as
// VirtualBox appends there, and renews the modification UUID.
func (w *writer) Begin(renew bool) error {
	count, mod := w.end, w.mod
	if w.header.Type == typeFixed { // all its blocks count, used or not
		count = max(count, min(w.count, int64(w.header.Blocks)))
	}
	if renew {
		var err error
		if mod, err = uuid.NewRandom(); err != nil {
			return err
		}
	}
	// The scan may have seen entries a killed process wrote and the disk has not:
	// only what is durable may lose the slots it does not name.
	if err := w.file.DataSync(); err != nil {
		return err
	}
	if end := w.position(w.end); w.size > end && w.header.Type != typeFixed {
		if err := w.file.Truncate(end); err != nil {
			return err
		}
		w.size = end
	}
	if err := w.writeHeader(count, mod); err != nil {
		return err
	}
	return w.file.DataSync()
}

// Reserve prefers the lowest slot nothing leads to: one given back, or one a crash
// or another program left behind. All of it becomes zeros, as neither the extra
// bytes nor what lies past the end of the disk is ever written.
func (w *writer) Reserve(vdcore.Unit) (vdcore.Place, error) {
	n, ok := w.pick()
	if !ok {
		return vdcore.Place{}, fmt.Errorf("all %d slots are taken: %w", w.limit, syscall.ENOSPC)
	}
	if err := storage.Zero(w.file, w.position(n), w.header.slotSize()); err != nil {
		return vdcore.Place{}, err
	}
	w.take(n)
	return vdcore.Place{Pos: w.place(uint32(n))}, nil
}

func (w *writer) Release(p vdcore.Place) {
	if n, err := w.slotAt(p); err == nil {
		w.give(n)
	}
}

// Prepare makes the count as high as the changes' slots need, and the file as long
// as all reserved ones do: data may be on their way into any of them, and a length
// that only fits these changes could cut them off.
func (w *writer) Prepare(changes []vdcore.Change) error {
	need := int64(0)
	for _, c := range changes {
		if c.Kind != vdcore.Data {
			continue
		}
		n, err := w.slotAt(c.Place)
		if err != nil {
			return err
		}
		need = max(need, n+1)
	}
	if end := w.position(w.end); need > 0 && w.size < end {
		if err := w.file.Truncate(end); err != nil {
			return err
		}
		w.size = end
	}
	return w.writeHeader(max(w.count, need), w.mod)
}

// Publish writes the entries, those of neighbouring blocks at once: each lies in
// one sector and is sound without the others.
func (w *writer) Publish(changes []vdcore.Change) error {
	for len(changes) > 0 {
		first := w.block(changes[0])
		var b []byte
		for k, c := range changes {
			if w.block(c) != first+int64(k) {
				break
			}
			entry, err := w.entry(c)
			if err != nil {
				return err
			}
			b = binary.LittleEndian.AppendUint32(b, entry)
		}
		if err := w.writeEntries(first, b); err != nil {
			return err
		}
		changes = changes[len(b)/4:]
	}
	return nil
}

func (w *writer) block(c vdcore.Change) int64 { return c.Unit.Off / int64(w.header.BlockSize) }

func (w *writer) entry(c vdcore.Change) (uint32, error) {
	switch {
	case c.Kind == vdcore.Data:
		n, err := w.slotAt(c.Place)
		return uint32(n), err
	case !w.Can(c.Kind):
		return 0, fmt.Errorf("a block cannot become %s here: %w", c.Kind, vdcore.ErrUnsupported)
	case c.Kind == vdcore.Zero:
		return entryZero, nil
	}
	return entryFree, nil
}

func (w *writer) writeEntries(block int64, b []byte) error {
	return w.tables.WriteAt(w.file, b, int64(w.header.OffMap)+4*block)
}

// position is where a slot begins, with its extra bytes.
func (w *writer) position(n int64) int64 {
	return int64(w.header.OffData) + n*w.header.slotSize()
}

// slotAt is the taken slot whose data begin at a place.
func (w *writer) slotAt(p vdcore.Place) (int64, error) {
	rel := p.Pos - w.place(0)
	n := rel / w.header.slotSize()
	if p.File != 0 || rel < 0 || rel%w.header.slotSize() != 0 || !w.taken.has(n) {
		return 0, fmt.Errorf("no slot that was handed out begins at %d of file %d", p.Pos, p.File)
	}
	return n, nil
}

// writeHeader writes what changes in the header: the count, and the modification
// UUID close behind it. That is one write inside the first sector.
func (w *writer) writeHeader(count int64, mod uuid.UUID) error {
	if count == w.count && mod == w.mod {
		return nil
	}
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, uint32(count))
	for _, id := range []uuid.UUID{w.header.UUID, mod} {
		id = swap(id)
		b = append(b, id[:]...)
	}
	if _, err := w.file.WriteAt(b, w.header.countAt()); err != nil {
		return err
	}
	w.count, w.mod = count, mod
	return nil
}
