package vmdk

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// piece is one extent line made readable: the guest range [start, end) of the
// disk. Offsets are the disk's throughout.
type piece interface {
	end() int64
	// verify reads the tables once, reports what is held and what is lost, and
	// leaves behind what mapTo needs. It runs before any other method below.
	verify(r *report) error
	// mapTo appends extents for [lo, hi), which lies inside the piece.
	mapTo(dst []vdcore.Extent, lo, hi int64) ([]vdcore.Extent, error)
	// header is the parsed header, for display; nil when there is none.
	header() any
}

// guest is the range a piece covers.
type guest struct{ at, size int64 }

func (g guest) end() int64 { return g.at + g.size }

// report collects what verify finds, for all pieces of an image.
type report struct {
	info     *vdcore.Info
	jumps    int   // between grain tables that do not follow each other in their file
	unpacked int64 // bytes of compressed grains tried out
	doubted  int64 // bytes of those tried out because two entries lead to one
}

func (r *report) held(n int64)         { r.info.Allocated += n }
func (r *report) warn(sentence string) { r.info.Warn(sentence) }
func (r *report) note(sentence string) { r.info.Note(sentence) }

func (r *report) lost(off, n int64, err error) {
	if n > 0 {
		r.info.AddDamage(off, n, err)
	}
}

// image is an open VMDK.
type image struct {
	desc   *descriptor
	info   *vdcore.Info   // apart from the image, for those that keep no more of it
	files  []storage.File // [0] is the file that was opened
	pieces []piece        // in guest order, without gaps
	own    *hostedHeader  // of files[0], when the descriptor is embedded
	textAt int64          // where the descriptor begins in files[0]
}

var (
	_ vdcore.Image        = (*image)(nil)
	_ vdcore.Decoder      = (*image)(nil)
	_ vdcore.HeaderDumper = (*image)(nil)
	_ vdcore.Counted      = (*image)(nil)
)

func (i *image) Info() *vdcore.Info    { return i.info }
func (i *image) Files() []storage.File { return i.files }

// Map asks the pieces the range touches.
func (i *image) Map(dst []vdcore.Extent, off, n int64) ([]vdcore.Extent, error) {
	end := off + n
	var err error
	for k := i.pieceAt(off); off < end && k < len(i.pieces); k++ {
		p := i.pieces[k]
		hi := min(end, p.end())
		if dst, err = p.mapTo(dst, off, hi); err != nil {
			return nil, err
		}
		off = hi
	}
	return dst, nil
}

// pieceAt finds the piece that holds a guest offset.
func (i *image) pieceAt(off int64) int {
	return sort.Search(len(i.pieces), func(k int) bool { return i.pieces[k].end() > off })
}

// Decode unpacks one grain.
func (i *image) Decode(e vdcore.Extent, memory []byte) ([]byte, error) {
	off := e.Off - e.Skip
	if k := i.pieceAt(off); k < len(i.pieces) {
		if g, ok := i.pieces[k].(*grains); ok && g.index == e.File && off >= g.at {
			return g.unpack(memory, off-g.at, e.Pos)
		}
	}
	return nil, fmt.Errorf("no compressed grain at guest byte %d: %w", off, vdcore.ErrCorrupt)
}

// Stored: the tables were counted when they were checked, damage apart. Of flat extents
// it was counted what room they take on the host.
func (i *image) Stored() (int64, bool) {
	flat := slices.ContainsFunc(i.pieces, func(p piece) bool { _, ok := p.(*flat); return ok })
	return i.info.Allocated, !flat && len(i.info.Damage) == 0
}

// Close closes every file of the image.
func (i *image) Close() error { return closeAll(i.files) }

func closeAll(files []storage.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Header is the descriptor and the headers of the extent files.
func (i *image) Header() any {
	type extent struct {
		File   string `json:"file"`
		Header any    `json:"header"`
	}
	dump := struct {
		Descriptor *descriptor   `json:"descriptor"`
		Embedded   *hostedHeader `json:"embedded_in,omitempty"`
		Extents    []extent      `json:"extent_headers,omitempty"`
	}{Descriptor: i.desc, Embedded: i.own}
	for k, p := range i.pieces {
		if h := p.header(); h != nil {
			dump.Extents = append(dump.Extents, extent{i.desc.Extents[k].Name, h})
		}
	}
	return dump
}
