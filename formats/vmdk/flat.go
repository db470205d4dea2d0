package vmdk

import (
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// flat is an extent whose file holds the guest's bytes as they are.
type flat struct {
	guest
	file  storage.File
	index int   // of file in image.files
	pos   int64 // where the extent begins in it
	avail int64 // how much of the extent the file holds
	taken int64 // how much of that takes room on the host
	short error // why the rest is lost
}

// holeUnit is the unit of the holes that are reported: 64 KiB of the file, in place
// and size. Smaller ones would cost more to map than reading their zeros does. As
// the units lie the same for every window, so do the maps.
const holeUnit = 64 << 10

// bound finds how much of the extent lies inside the file.
func (f flat) bound(name string, st storage.Stat) *flat {
	f.avail = min(max(st.Size-f.pos, 0), f.size)
	f.taken = min(st.Allocated, f.avail)
	f.short = vdcore.Flaw("extent-short", fmt.Errorf("extent file shorter than its extent: %s has %d bytes, %d are needed: %w",
		name, st.Size, f.pos+f.size, vdcore.ErrCorrupt))
	return &f
}

func (f *flat) header() any { return nil }

var _ vdcore.Plain = (*image)(nil)

// Plain is the file of an image that is one flat extent and nothing else.
func (i *image) Plain() storage.File {
	if len(i.pieces) != 1 {
		return nil
	}
	f, ok := i.pieces[0].(*flat)
	if !ok || f.pos != 0 {
		return nil
	}
	if st, err := f.file.Stat(); err != nil || st.Size != i.info.Capacity {
		return nil
	}
	return f.file
}

func (f *flat) verify(r *report) error {
	r.held(f.taken)
	r.lost(f.at+f.avail, f.size-f.avail, f.short)
	return nil
}

// mapTo tells the data from the holes of the file. A hole is Zero, never Free: a
// flat extent holds all of its range. What a file has lost since it was opened is
// Lost.
func (f *flat) mapTo(dst []vdcore.Extent, lo, hi int64) ([]vdcore.Extent, error) {
	st, err := f.file.Stat()
	if err != nil {
		return nil, err
	}
	cut := min(max(f.at+min(f.avail, st.Size-f.pos), lo), hi)
	for lo < cut {
		kind, end, err := f.stretch(f.pos + lo - f.at)
		if err != nil {
			return nil, err
		}
		e := vdcore.Extent{Off: lo, Len: min(end-f.pos+f.at, cut) - lo, Kind: kind}
		if kind == vdcore.Data {
			e.File, e.Pos = f.index, f.pos+lo-f.at
		}
		dst = vdcore.Append(dst, e)
		lo = e.End()
	}
	return vdcore.Append(dst, vdcore.Extent{Off: lo, Len: hi - lo, Kind: vdcore.Lost}), nil
}

// stretch says what lies at a position of the file the extent had at open, and up
// to where, which is always further on. Data is right in any case of doubt, also
// when the file is being cut: reading it then fails.
func (f *flat) stretch(pos int64) (kind vdcore.Kind, to int64, err error) {
	end := f.pos + f.avail
	unit := max(pos-pos%holeUnit, f.pos)
	data, err := f.file.NextData(unit)
	data = max(data, unit)
	switch {
	case err != nil:
		return vdcore.Lost, 0, err
	case data >= end:
		return vdcore.Zero, end, nil
	case data-data%holeUnit > pos:
		return vdcore.Zero, data - data%holeUnit, nil
	}
	hole, err := f.file.NextHole(data)
	if hole <= data { // past the end of the file
		return vdcore.Data, end, err
	}
	return vdcore.Data, (hole + holeUnit - 1) / holeUnit * holeUnit, err
}

// uniform is an extent of one kind without a file: zeros, or lost with a reason.
type uniform struct {
	guest
	kind vdcore.Kind
	why  error
}

func (u *uniform) header() any { return nil }

func (u *uniform) verify(r *report) error {
	if u.kind == vdcore.Lost {
		r.lost(u.at, u.size, u.why)
	}
	return nil
}

func (u *uniform) mapTo(dst []vdcore.Extent, lo, hi int64) ([]vdcore.Extent, error) {
	return vdcore.Append(dst, vdcore.Extent{Off: lo, Len: hi - lo, Kind: u.kind}), nil
}
