package vdcore

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vdfs/vdcore/storage"
)

// fresh is a unit that has a place no table knows yet. What the guest wrote of it
// lies in that place and is in the flat map; the rest is still the parents', until
// a commit fills it in. So a sequential writer never reads a parent, and nothing
// is written twice or kept in memory.
type fresh struct {
	unit  Unit
	place Place

	mu sync.Mutex // one write into the place, or its filling, at a time
	// What follows changes under mu and writer.mu together.
	written spans // guest ranges, sorted, joined
	keep    bool  // wanted although nothing was written to it (Allocate)
	full    bool  // filled: all of it is in the flat map
	gone    bool  // given up
	soiled  bool  // a write failed: what was not written does not read as zeros
	exposed bool  // an entry on disk may lead here: publishing it failed half-way
}

// span is a guest range [from, to).
type span struct{ from, to int64 }

type spans []span

// add joins a range into the list.
func (s spans) add(from, to int64) spans {
	i, _ := slices.BinarySearchFunc(s, from, func(x span, at int64) int {
		if x.to < at {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(s) && s[j].from <= to; j++ {
		from, to = min(from, s[j].from), max(to, s[j].to)
	}
	return slices.Replace(s, i, j, span{from, to})
}

// has reports whether an offset is in one of the ranges.
func (s spans) has(off int64) bool {
	return slices.ContainsFunc(s, func(x span) bool { return x.from <= off && off < x.to })
}

// gaps are what is missing of [from, to).
func (s spans) gaps(from, to int64) spans {
	var list spans
	for _, x := range s {
		if x.from > from {
			list = append(list, span{from, x.from})
		}
		from = x.to
	}
	if from < to {
		list = append(list, span{from, to})
	}
	return list
}

// at is where a guest offset of the unit lies in its file.
func (b *fresh) at(off int64) Place {
	return Place{b.place.File, b.place.Pos + off - b.unit.Off}
}

// writeFresh writes to a unit the topmost image holds nothing of at off.
func (w *writer) writeFresh(u Unit, p []byte, off int64) (int, error) {
	b, err := w.freshAt(u, off)
	if b == nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full || b.gone {
		return 0, nil
	}
	sectors, from, err := w.wholeSectors(b, p, off)
	if err != nil {
		return 0, err
	}
	at := b.at(from)
	if _, err := w.writeFile(at.File, sectors, at.Pos); err != nil {
		b.soiled = true
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.enter(b, from, int64(len(sectors)))
	return len(p), nil
}

// sectorSize is what a power cut leaves whole, bytes. No sector ever lies in two
// places: a write to it would be two, and the power could go between.
const sectorSize = 512

// wholeSectors completes the first and the last sector of a write to a fresh unit
// with what is seen there, unless they are written already.
func (w *writer) wholeSectors(b *fresh, p []byte, off int64) (sectors []byte, from int64, err error) {
	end := off + int64(len(p))
	from, to := off, end
	if !b.written.has(off) {
		from -= off % sectorSize
	}
	if !b.written.has(end) {
		to = min((end+sectorSize-1)/sectorSize*sectorSize, b.unit.End())
	}
	if from == off && to == end {
		return p, off, nil
	}
	sectors = make([]byte, to-from)
	copy(sectors[off-from:], p)
	err = w.see(sectors[:off-from], from)
	if err == nil {
		err = w.see(sectors[end-from:], end)
	}
	return sectors, from, err
}

// see fills p with what the disk shows, for who has the gate already.
func (w *writer) see(p []byte, off int64) error {
	var failed error
	err := w.disk.Each(off, int64(len(p)), func(f Flat) bool {
		failed = w.disk.readExtent(p[f.Off-off:f.End()-off], f)
		return failed == nil
	})
	return errors.Join(err, failed)
}

// enter makes [off, off+n) of a fresh unit seen. Under b.mu and w.mu.
func (w *writer) enter(b *fresh, off, n int64) {
	before := len(b.written)
	b.written = b.written.add(off, off+n)
	w.spans += len(b.written) - before
	w.patchData(off, n, b.at(off))
}

// freshAt returns the fresh unit, with a new place if it has none; nil when the
// image holds it by now.
func (w *writer) freshAt(u Unit, off int64) (*fresh, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.fresh[u.Off]; b != nil {
		return b, nil
	}
	if !w.lacks(off) {
		return nil, nil
	}
	place, err := w.img.Reserve(u)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.path(), err)
	}
	if err := w.grow(place, u.Len); err != nil {
		w.img.Release(place)
		return nil, err
	}
	b := &fresh{unit: u, place: place}
	w.fresh[u.Off] = b
	w.arm()
	return b, nil
}

// grow makes the file reach to the end of a place, so that what is not written
// there reads as zeros and no write outside mu ever changes the file's size.
func (w *writer) grow(p Place, n int64) error {
	f := w.files[p.File]
	st, err := f.Stat()
	if err != nil || st.Size >= p.Pos+n {
		return err
	}
	w.dirty[p.File].Store(true)
	return f.Truncate(p.Pos + n)
}

// drop gives up a fresh unit that is not in the flat map. The caller holds b.mu, or
// has the gate alone.
func (w *writer) drop(b *fresh) error {
	err := w.wipe(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget(b, err == nil)
	return err
}

// wipe makes a place read as zeros again.
func (w *writer) wipe(b *fresh) error {
	defer w.dirty[b.place.File].Store(true)
	return storage.Zero(w.files[b.place.File], b.place.Pos, b.unit.Len)
}

// forget takes a unit out of those that are fresh. A place that could not be wiped
// leaks until the image is opened again. Under mu.
func (w *writer) forget(b *fresh, wiped bool) {
	b.gone = true
	w.spans -= len(b.written)
	delete(w.fresh, b.unit.Off)
	switch {
	case b.exposed:
		w.retired[b.place] = b.unit.Len
	case wiped:
		w.img.Release(b.place)
	}
}

// arm has what waits committed in a while.
func (w *writer) arm() {
	if w.timer == nil {
		w.timer = time.AfterFunc(syncAge, func() { w.commit() }) // an error shows at the next Sync
	}
}

func (w *writer) crowded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.fresh)+len(w.freed) > maxFresh || w.spans > maxSpans
}

// pending enters what no table knows yet into runs made from the tables for
// [off, end). Under mu.
func (w *writer) pending(runs []run, off, end int64) ([]run, error) {
	if len(w.fresh)+len(w.freed) == 0 {
		return runs, nil
	}
	file := int32(w.chain.files.first[w.layer])
	for at := off; at < end; {
		u := w.img.Unit(at)
		if c, ok := w.freed[u.Off]; ok {
			part := Unit{Off: max(u.Off, off)}
			part.Len = min(u.End(), end) - part.Off
			shown, err := w.shown(part, c.Kind)
			if err != nil {
				return nil, err
			}
			for i, r := range shown {
				runs = splice(runs, r, runEnd(shown, i, part.End()), end)
			}
		}
		if b := w.fresh[u.Off]; b != nil {
			for _, s := range b.seen() {
				from, to := max(s.from, off), min(s.to, end)
				if from < to {
					at := b.at(from)
					runs = splice(runs, run{start: from, pos: at.Pos, file: file + int32(at.File), layer: int32(w.layer), kind: Data}, to, end)
				}
			}
		}
		at = u.End()
	}
	return runs, nil
}

// seen are the ranges of the unit that lie in its place.
func (b *fresh) seen() spans {
	if b.full {
		return spans{{b.unit.Off, b.unit.End()}}
	}
	return b.written
}
