package vmdk

import (
	"fmt"

	"vdfs/vdcore"
)

// flat is an extent whose file holds the guest's bytes as they are.
type flat struct {
	guest
	file  int   // index into image.files
	pos   int64 // where the extent begins in it
	avail int64 // how much of the extent the file holds
	short error // why the rest is lost
}

// newFlat finds how much of the extent lies inside the file.
func newFlat(g guest, file int, name string, pos, fileSize int64) *flat {
	f := &flat{guest: g, file: file, pos: pos}
	f.avail = min(max(fileSize-pos, 0), g.size)
	f.short = fmt.Errorf("extent file shorter than its extent: %s has %d bytes, %d are needed: %w",
		name, fileSize, pos+g.size, vdcore.ErrCorrupt)
	return f
}

func (f *flat) header() any { return nil }

func (f *flat) verify(r *report) error {
	r.held(f.avail)
	r.lost(f.at+f.avail, f.size-f.avail, f.short)
	return nil
}

func (f *flat) mapTo(dst []vdcore.Extent, lo, hi int64) ([]vdcore.Extent, error) {
	cut := min(max(f.at+f.avail, lo), hi)
	dst = vdcore.Append(dst, vdcore.Extent{Off: lo, Len: cut - lo, Kind: vdcore.Data, File: f.file, Pos: f.pos + lo - f.at})
	return vdcore.Append(dst, vdcore.Extent{Off: cut, Len: hi - cut, Kind: vdcore.Lost}), nil
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
