package vdcore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"vdfs/vdcore/storage"
)

// commit makes everything written so far durable:
//
//  1. fresh units are filled up from the parents,
//  2. the image prepares (lengths, counts, empty tables), then the first barrier:
//     from here on an entry may lead to those places,
//  3. the entries are written, then the second barrier,
//  4. places that lost their unit are given back, as no entry leads there.
func (w *writer) commit() error {
	w.commits.Lock()
	defer w.commits.Unlock()
	return w.commitAlone()
}

// commitAlone is commit for who holds w.commits. What still waits after an error is
// tried again in a while.
func (w *writer) commitAlone() error {
	err := w.commitOnce()
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.fresh)+len(w.freed)+len(w.retired) > 0 && w.failed.Load() == nil {
			w.arm()
		}
	}
	return err
}

func (w *writer) commitOnce() error {
	if err := w.failed.Load(); err != nil {
		return *err
	}
	blocks, unfilled := w.fill()
	changes, gone := w.changes(blocks)
	if err := w.prepare(changes); err != nil {
		return errors.Join(unfilled, err)
	}
	if err := w.barrier(); err != nil {
		return err
	}
	if len(changes) == 0 {
		return unfilled
	}
	if err := w.publish(changes, blocks); err != nil {
		return errors.Join(unfilled, err)
	}
	if err := w.barrier(); err != nil {
		return err
	}
	w.giveBack(gone)
	return unfilled
}

// fill completes the fresh units and returns those that are. A unit that cannot be
// (no space, a parent that cannot be read) waits for the next commit.
func (w *writer) fill() (full []*fresh, err error) {
	w.mu.Lock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	blocks := make([]*fresh, 0, len(w.fresh))
	for _, b := range w.fresh {
		blocks = append(blocks, b)
	}
	w.mu.Unlock()
	slices.SortFunc(blocks, func(a, b *fresh) int { return comparePlaces(a.place, b.place) })
	var errs []error
	for _, b := range blocks {
		ok, err := w.fillUnit(b)
		if ok {
			full = append(full, b)
		}
		if err != nil && len(errs) < 3 { // one cause has many units
			errs = append(errs, err)
		}
	}
	return full, errors.Join(errs...)
}

func (w *writer) fillUnit(b *fresh) (ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.gone:
		return false, nil
	case b.full:
		return true, nil
	case len(b.written) == 0 && !b.keep: // its only write failed
		return false, w.drop(b)
	}
	for _, g := range b.written.gaps(b.unit.Off, b.unit.End()) {
		if err := w.fillGap(b, g); err != nil {
			b.soiled = true
			return false, fmt.Errorf("%s: fill guest bytes %d to %d: %w", w.path(), g.from, g.to, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spans -= len(b.written)
	b.full, b.written = true, nil
	w.patchData(b.unit.Off, b.unit.Len, b.place)
	return true, nil
}

// fillChunk is how much is read from the parents at a time, bytes.
const fillChunk = 256 << 10

// fillGap copies what the parents show. A place reads as zeros, so zeros need no
// copying, unless a write went wrong there.
func (w *writer) fillGap(b *fresh, g span) error {
	var failed error
	err := w.disk.Each(g.from, g.to-g.from, func(f Flat) bool {
		if f.Kind != Zero || b.soiled {
			failed = w.fillExtent(b, f)
		}
		return failed == nil
	})
	return errors.Join(err, failed)
}

func (w *writer) fillExtent(b *fresh, f Flat) error {
	buf := make([]byte, min(f.Len, fillChunk))
	for off := f.Off; off < f.End(); off += int64(len(buf)) {
		part := f
		part.Extent = f.Extent.Clip(off, min(off+int64(len(buf)), f.End()))
		buf = buf[:part.Len]
		if err := w.disk.readExtent(buf, part); err != nil {
			return err
		}
		at := b.at(off)
		if _, err := w.writeFile(at.File, buf, at.Pos); err != nil {
			return err
		}
	}
	return nil
}

// changes are the entries to write, in guest order, and the places that are free
// once they are.
func (w *writer) changes(blocks []*fresh) (list []Change, gone map[Place]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range blocks {
		list = append(list, Change{Unit: b.unit, Kind: Data, Place: b.place})
	}
	for off, c := range w.freed {
		if b := w.fresh[off]; b == nil || !b.full {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.Unit.Off, b.Unit.Off) })
	return list, maps.Clone(w.retired)
}

func (w *writer) prepare(changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.img.Prepare(changes)
	w.touch(changes)
	if err != nil {
		return fmt.Errorf("%s: %w", w.path(), err)
	}
	return nil
}

func (w *writer) publish(changes []Change, blocks []*fresh) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.img.Publish(changes)
	w.touch(changes)
	if err != nil {
		for _, b := range blocks {
			b.exposed = true
		}
		return fmt.Errorf("%s: %w", w.path(), err)
	}
	for _, b := range blocks {
		delete(w.fresh, b.unit.Off)
	}
	for _, c := range changes {
		delete(w.freed, c.Unit.Off)
	}
	return nil
}

// touch marks the files dirty whose tables changed.
func (w *writer) touch(changes []Change) {
	for _, c := range changes {
		w.dirty[c.Unit.Place.File].Store(true)
	}
}

// barrier makes what was written to the image's files durable. When that fails,
// nobody knows what is on disk, and asking again would be answered with success:
// the image is not changed any more, and what the tables lead to is as it was.
func (w *writer) barrier() error {
	for i := range w.dirty {
		if !w.dirty[i].Swap(false) {
			continue
		}
		if err := w.files[i].DataSync(); err != nil {
			err = fmt.Errorf("%s: not written to disk: %w; the disk is read-only from here on", w.files[i].Path(), err)
			w.failed.CompareAndSwap(nil, &err)
			return err
		}
	}
	return nil
}

// giveBack frees places no table leads to any more. Nobody is on his way to one:
// they lost their unit in a discard, which had the disk for itself. A place that
// cannot be wiped leaks until the image is opened again; everything else is durable,
// so that is nobody's error.
func (w *writer) giveBack(gone map[Place]int64) {
	for _, p := range slices.SortedFunc(maps.Keys(gone), comparePlaces) {
		var err error
		if !w.refilling { // whoever gets the place next, the format or Reserve, overwrites it
			err = storage.Zero(w.files[p.File], p.Pos, gone[p])
			w.dirty[p.File].Store(true)
		}
		w.mu.Lock()
		delete(w.retired, p)
		if err == nil {
			w.img.Release(p)
		}
		w.mu.Unlock()
	}
}

func comparePlaces(a, b Place) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Pos, b.Pos))
}

// close commits and leaves the image as its own tools would.
func (w *writer) close() error {
	err := w.commit()
	w.commits.Lock()
	defer w.commits.Unlock()
	w.gate.Lock() // blocks move: nothing may be on its way to them
	defer w.gate.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.failed.Store(&errClosed) // for a commit by age that comes too late
	if err != nil || !w.began.Load() {
		return err
	}
	if err := w.img.Finish(); err != nil {
		return fmt.Errorf("%s: %w", w.path(), err)
	}
	return nil
}

var errClosed = fs.ErrClosed
