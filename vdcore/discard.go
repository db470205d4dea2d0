package vdcore

import (
	"errors"
	"slices"

	"vdfs/vdcore/storage"
)

// unitsAtOnce bounds how long a discard has the disk for itself.
const unitsAtOnce = 1024

// discard has the disk for itself: units give up their places, and no read or write
// may be on its way to one of a fresh unit, nor a commit be half done. Now and then
// it lets others have their turn, and memory with it.
func (w *writer) discard(off, n int64) error {
	w.commits.Lock()
	defer w.commits.Unlock()
	return w.inTurns(off, off+n, w.discardAlone, w.commitAlone)
}

// inTurns calls turn, which returns how far it came, until the range is done. Between
// turns it commits, when that may make room or memory is short.
func (w *writer) inTurns(off, end int64, turn func(off, end int64) (int64, error), commit func() error) error {
	retried := false
	for off < end {
		next, err := turn(off, end)
		switch {
		case err == nil:
			retried = false
		case retried || !w.mayMakeRoom(err):
			return err
		default:
			retried = true
			if cerr := commit(); cerr != nil {
				return errors.Join(err, cerr)
			}
		}
		off = next
		if w.crowded() {
			if err := commit(); err != nil {
				return err
			}
		}
	}
	return nil
}

// discardAlone returns how far it came.
func (w *writer) discardAlone(off, end int64) (int64, error) {
	w.gate.Lock()
	defer w.gate.Unlock()
	if err := w.failed.Load(); err != nil {
		return off, *err
	}
	for range unitsAtOnce {
		if off >= end {
			break
		}
		f, err := w.disk.extentAt(off)
		if err != nil {
			return off, err
		}
		stop := min(f.End(), end)
		if f.Kind != Zero || len(w.fresh) > 0 {
			u := w.unit(off)
			stop = min(u.End(), end)
			err = w.discardPart(u, off, stop)
		}
		if err != nil {
			return off, err
		}
		off = stop
	}
	return off, nil
}

// discardPart makes [off, end) of one unit zeros.
func (w *writer) discardPart(u Unit, off, end int64) error {
	zero := true
	if err := w.disk.Each(off, end-off, func(f Flat) bool {
		zero = f.Kind == Zero
		return zero
	}); err != nil {
		return err
	}
	whole := !u.Fixed && off == u.Off && end == u.End()
	b := w.fresh[u.Off]
	switch {
	case zero && whole && b != nil && len(b.written) == 0 && !b.full: // kept by Allocate
		return w.drop(b)
	case zero:
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	if whole {
		if done, err := w.freeUnit(u); done || err != nil {
			return err
		}
	}
	return w.blank(u, off, end)
}

// freeUnit takes a whole unit out of the image: it becomes Zero where the parents
// would show through, Free where there are none. It reports false when the image
// has no word for that.
func (w *writer) freeUnit(u Unit) (done bool, err error) {
	w.mu.Lock()
	kind, ok := w.freeKind(u)
	w.mu.Unlock()
	if !ok {
		return false, nil
	}
	return true, w.giveUp(u, kind)
}

// giveUp has a unit lose its place and become kind. The caller has the gate alone.
func (w *writer) giveUp(u Unit, kind Kind) error {
	w.mu.Lock()
	held, err := w.img.Map(nil, u.Off, u.Len)
	w.mu.Unlock()
	if err != nil {
		return err
	}
	b := w.fresh[u.Off]
	if b != nil {
		err = w.wipe(b) // whatever comes of it, the unit is given up
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if b != nil {
		w.forget(b, err == nil)
	}
	if held[0].Kind == Data {
		w.retired[Place{held[0].File, held[0].Pos}] = u.Len
	}
	w.freed[u.Off] = Change{Unit: u, Kind: kind}
	w.arm()
	runs, serr := w.shown(u, kind)
	for i, r := range runs {
		w.patch(r, runEnd(runs, i, u.End()))
	}
	return errors.Join(err, serr)
}

// shown is what the disk shows of a unit that becomes kind.
func (w *writer) shown(u Unit, kind Kind) ([]run, error) {
	if kind == Zero || w.layer == 0 {
		return []run{{start: u.Off, file: -1, layer: int32(w.layer), kind: Zero}}, nil
	}
	return w.chain.resolve(w.layer-1, u.Off, u.Len)
}

// runEnd is where run i of those that end at end does.
func runEnd(runs []run, i int, end int64) int64 {
	if i+1 < len(runs) {
		return runs[i+1].start
	}
	return end
}

// freeKind is what a unit without a place becomes.
func (w *writer) freeKind(u Unit) (Kind, bool) {
	switch {
	case w.layer == 0 && w.img.Can(Free):
		return Free, true
	case w.img.Can(Zero):
		return Zero, true
	case !w.img.Can(Free):
		return Free, false
	}
	below, err := w.chain.resolve(w.layer-1, u.Off, u.Len)
	if err != nil || slices.ContainsFunc(below, func(r run) bool { return r.kind != Zero }) {
		return Free, false
	}
	return Free, true
}

// blank makes a part of a unit zeros: sectors that are not whole are written, for
// the others see blankSectors.
func (w *writer) blank(u Unit, off, end int64) error {
	from, to := (off+sectorSize-1)/sectorSize*sectorSize, end/sectorSize*sectorSize
	if end == w.disk.capacity {
		to = end
	}
	if from >= to {
		return w.writeZeros(off, end)
	}
	return errors.Join(w.writeZeros(off, from), w.blankSectors(u, from, to), w.writeZeros(to, end))
}

// writeZeros is for less than two sectors.
func (w *writer) writeZeros(off, end int64) error {
	for off < end {
		n, err := w.step(zeroes[:end-off], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// blankSectors punches what the image holds out of its file, and hides what a
// parent shows under a place full of zeros.
func (w *writer) blankSectors(u Unit, off, end int64) error {
	var parts []Flat
	if err := w.disk.Each(off, end-off, func(f Flat) bool {
		parts = append(parts, f)
		return true
	}); err != nil {
		return err
	}
	var errs []error
	for _, f := range parts {
		switch {
		case f.Kind == Zero:
		case w.owns(f):
			errs = append(errs, w.punch(u, f))
		default:
			errs = append(errs, w.hide(u, f))
		}
	}
	return errors.Join(errs...)
}

func (w *writer) punch(u Unit, f Flat) error {
	err := storage.Zero(f.File, f.Pos, f.Len)
	w.dirty[f.Extent.File].Store(true)
	if err == nil && u.Fixed {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.patchZero(f.Off, f.Len)
	}
	return err
}

// hide puts zeros of the topmost image over a parent's data.
func (w *writer) hide(u Unit, f Flat) error {
	var b *fresh
	for b == nil { // until its leaf stays long enough
		_, err := w.disk.extentAt(f.Off)
		if err == nil {
			b, err = w.freshAt(u, f.Off)
		}
		if err != nil {
			return err
		}
	}
	if b.soiled {
		at := b.at(f.Off)
		if err := storage.Zero(w.files[at.File], at.Pos, f.Len); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.enter(b, f.Off, f.Len)
	return nil
}

// allocate gives every unit of the range a place, and has the host reserve it.
func (w *writer) allocate(off, n int64) error {
	return w.inTurns(off, off+n, w.allocateShared, w.commit)
}

// allocateShared returns how far it came.
func (w *writer) allocateShared(off, end int64) (int64, error) {
	w.gate.RLock()
	defer w.gate.RUnlock()
	if err := w.begin(); err != nil {
		return off, err
	}
	for range unitsAtOnce {
		if off >= end {
			break
		}
		done, err := w.allocateStep(off, end)
		if err != nil {
			return off, err
		}
		off += done
	}
	return off, nil
}

// allocateStep deals with one extent or unit, and returns how much that was.
func (w *writer) allocateStep(off, end int64) (int64, error) {
	f, err := w.disk.extentAt(off)
	if err != nil {
		return 0, err
	}
	n := min(f.Len, end-off)
	u := w.unit(off)
	switch {
	case w.owns(f):
		return n, f.File.Allocate(f.Pos, n)
	case u.Fixed:
		return n, w.files[u.Place.File].Allocate(u.Place.Pos+off-u.Off, n)
	}
	b, err := w.freshAt(u, off)
	if b == nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone || b.full {
		return 0, nil
	}
	if err := w.files[b.place.File].Allocate(b.place.Pos, u.Len); err != nil {
		return 0, err // the next commit drops a unit nobody wrote to
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	b.keep = true
	return min(u.End(), end) - off, nil
}
