package vdcore

import (
	"fmt"
	"slices"

	"vdfs/vdcore/storage"
)

// fillBatch is how many entries of a new image wait to be written together.
const fillBatch = 1 << 14

// Filler fills a new image in guest order. Nobody relies on such an image yet, so
// nothing is kept apart for a power cut: places are handed out as they are asked
// for, the entries are written without barriers, and all of it is on disk after
// Finish. What becomes of an image that is given up before is up to who made it.
//
// Places may be written to by many goroutines; everything else is for one at a time.
type Filler struct {
	w       *writer
	unit    Unit  // the one that was asked for last
	place   Place // of it
	changes []Change
	held    []Extent // memory for Map
}

// Fill readies the topmost image of a chain opened with Options.Write, which was
// just made, for being filled. The chain's disks are not used while it is.
func (c *Chain) Fill() (*Filler, error) {
	if c.writer == nil {
		return nil, c.Top().refuse()
	}
	f := &Filler{w: c.writer}
	if err := f.w.img.Begin(false); err != nil {
		return nil, fmt.Errorf("%s: %w", f.w.path(), err)
	}
	return f, nil
}

// Unit is the unit that holds a guest offset.
func (f *Filler) Unit(off int64) Unit { return f.w.img.Unit(off) }

// Place returns where a guest offset lies in the image's files, and how many bytes
// lie there together. What is not written there reads as zeros. Offsets do not go
// back beyond the unit asked for last.
func (f *Filler) Place(off int64) (file storage.File, pos, n int64, err error) {
	if off < f.unit.Off || off >= f.unit.End() {
		if err := f.enter(f.w.img.Unit(off)); err != nil {
			return nil, 0, 0, fmt.Errorf("%s: %w", f.w.path(), err)
		}
	}
	x := f.w.files[f.place.File]
	x.pin()
	return x, f.place.Pos + off - f.unit.Off, f.unit.End() - off, nil
}

// enter finds the place of a unit, or gives it one.
func (f *Filler) enter(u Unit) (err error) {
	place := u.Place
	if !u.Fixed {
		if place, err = f.reserve(u); err != nil {
			return err
		}
	}
	f.unit, f.place = u, place
	return nil
}

// reserve leaves a unit where it is in an image that was made with all of them.
func (f *Filler) reserve(u Unit) (Place, error) {
	held, err := f.w.img.Map(f.held[:0], u.Off, u.Len)
	if err != nil {
		return Place{}, err
	}
	if f.held = held; held[0].Kind == Data {
		return Place{held[0].File, held[0].Pos}, nil
	}
	place, err := f.w.img.Reserve(u)
	if err != nil {
		return Place{}, err
	}
	return place, f.change(Change{Unit: u, Kind: Data, Place: place})
}

// Zero has the unit that begins at a guest offset read as zeros, whatever the parents
// show: by an entry where the format has one, else with a place nothing is written
// to. Offsets do not go back, as with Place.
func (f *Filler) Zero(off int64) error {
	u := f.w.img.Unit(off)
	shown, err := f.shown(u)
	switch {
	case err != nil || !shown:
	case f.w.img.Can(Zero):
		err = f.change(Change{Unit: u, Kind: Zero})
	default:
		err = f.enter(u)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.w.path(), err)
	}
	return nil
}

// shown reports whether the parents have anything but zeros where a unit is.
func (f *Filler) shown(u Unit) (bool, error) {
	below, err := f.w.chain.resolve(f.w.layer-1, u.Off, u.Len)
	return slices.ContainsFunc(below, func(r run) bool { return r.kind != Zero }), err
}

func (f *Filler) change(c Change) error {
	f.changes = append(f.changes, c)
	if len(f.changes) < fillBatch {
		return nil
	}
	return f.publish()
}

func (f *Filler) publish() error {
	if len(f.changes) == 0 {
		return nil
	}
	err := f.w.img.Prepare(f.changes)
	if err == nil {
		err = f.w.img.Publish(f.changes)
	}
	f.changes = f.changes[:0]
	return err
}

// Finish writes the rest of the entries and makes the image durable.
func (f *Filler) Finish() error {
	err := f.publish()
	for _, x := range f.w.files {
		if err == nil {
			err = x.DataSync()
		}
	}
	if err == nil {
		err = f.w.img.Finish()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.w.path(), err)
	}
	return nil
}
