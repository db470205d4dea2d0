package vmdk

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

var _ vdcore.Resizer = (*writer)(nil)

// CanResize: one sparse file with its descriptor inside, or flat extents, of which the
// last changes. The pieces of a split sparse image have a header each, and the
// descriptor is another file: they only change in number.
func (w *writer) CanResize(capacity int64) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, vdcore.ErrUnsupported)...)
	}
	last, sizes := len(w.pieces)-1, w.sizesFor(capacity)
	g, sparse := w.pieces[len(sizes)-1].(*grains)
	switch grows := capacity > w.info.Capacity; {
	case capacity < sector || capacity%sector != 0 || capacity > newCapacityMax:
		return no("a VMDK of %d bytes: a multiple of %d up to %d is possible", capacity, sector, int64(newCapacityMax))
	case w.own != nil && (last > 0 || !sparse):
		return no("the descriptor lies inside an extent and names further ones, which cannot change in one step")
	case w.own != nil:
		return w.canGrow(g, capacity)
	case w.addsPieces(capacity):
		_, err := w.newPieces(capacity)
		return err
	case sparse && capacity != g.end():
		return no("the pieces of a split sparse image keep their sizes: it can become smaller by whole ones, to %d bytes for one; copy it to a new image", g.end())
	case grows && w.pieceLimit() < sizes[last]*sector:
		return no("the last of the extents, of 2 GiB at most, cannot grow to %d bytes; copy it to a new image", sizes[last]*sector)
	case grows:
		return w.canGrowFlat(w.pieces[last].(*flat))
	}
	return nil
}

// pieceLimit is how large an extent may be, bytes.
func (w *writer) pieceLimit() int64 {
	if kind := strings.ToLower(w.info.Variant); strings.HasPrefix(kind, "twogb") || strings.HasPrefix(kind, "2gb") {
		return 2 << 30
	}
	return newCapacityMax
}

// sizesFor are the sectors of the extents of a disk of another capacity: the last is
// cut or grows, those behind are left out. New pieces are not among them.
func (w *writer) sizesFor(capacity int64) (sizes []int64) {
	at := int64(0)
	for n, p := range w.pieces {
		end := p.end()
		if end > capacity || n == len(w.pieces)-1 && !w.addsPieces(capacity) {
			end = max(capacity, at+sector)
		}
		sizes = append(sizes, (end-at)/sector)
		if at = end; at >= capacity {
			break
		}
	}
	return sizes
}

// canGrowFlat looks behind an extent in its file: what is there would come to light.
func (w *writer) canGrowFlat(f *flat) error {
	for _, p := range w.pieces {
		if o, ok := p.(*flat); ok && o.index == f.index && o.pos > f.pos {
			return fmt.Errorf("another extent lies behind the last one in %s: %w", f.file.Path(), vdcore.ErrUnsupported)
		}
	}
	st, err := f.file.Stat()
	if err != nil {
		return err
	}
	buf := make([]byte, copyChunk)
	for at := f.pos + f.size; at < st.Size; {
		if at, err = f.file.NextData(at); err != nil || at >= st.Size {
			return err
		}
		p := buf[:min(st.Size-at, copyChunk)]
		if err := storage.ReadFull(f.file, p, at); err != nil {
			return err
		}
		if len(bytes.Trim(p, "\x00")) > 0 {
			return fmt.Errorf("%s holds something behind the extent, at %d, which would come to light: %w", f.file.Path(), at, vdcore.ErrUnsupported)
		}
		at += int64(len(p))
	}
	return nil
}

// Resize changes files first where they grow, and last where they shrink: a file may
// be longer than its extent, never shorter.
func (w *writer) Resize(ctx context.Context, fsys storage.FS, capacity int64, _ func(done, total int64)) error {
	text, err := w.resizedText(capacity)
	if err != nil {
		return err
	}
	if w.own != nil {
		return w.resizeEmbedded(fsys, capacity, text)
	}
	if w.addsPieces(capacity) {
		lines, err := w.newPieces(capacity)
		if err == nil {
			err = w.addPieces(ctx, fsys, lines)
		}
		if err != nil {
			return err
		}
		return storage.Overwrite(fsys, w.files[0].Path(), text)
	}
	sizes := w.sizesFor(capacity)
	if capacity > w.info.Capacity {
		f := w.pieces[len(sizes)-1].(*flat)
		if err := f.reach(sizes[len(sizes)-1] * sector); err != nil {
			return err
		}
		return storage.Overwrite(fsys, w.files[0].Path(), text)
	}
	if err := storage.Overwrite(fsys, w.files[0].Path(), text); err != nil {
		return err
	}
	return w.dropPieces(fsys, sizes)
}

// reach makes a file reach to the end of its extent of n bytes, and no further.
func (f *flat) reach(n int64) error {
	if err := f.file.Truncate(f.pos + n); err != nil {
		return err
	}
	return f.file.Sync()
}

// dropPieces cuts off what no extent line tells of any more. Another extent's bytes in
// the same file stay.
func (w *writer) dropPieces(fsys storage.FS, sizes []int64) error {
	keep := map[int]int64{0: 0} // by file: how much of it is in use
	for n, size := range sizes {
		switch p := w.pieces[n].(type) {
		case *flat:
			keep[p.index] = max(keep[p.index], p.pos+size*sector)
		case *grains:
			keep[p.index] = p.length
		}
	}
	for _, p := range w.pieces {
		if f, ok := p.(*flat); ok {
			if end, ok := keep[f.index]; ok && end < f.pos+f.size {
				if err := f.cutAt(end); err != nil {
					return err
				}
			}
		}
	}
	w.pieces = w.pieces[:len(sizes)] // the others are not finished, but gone
	for n := len(w.files) - 1; n > 0; n-- {
		path := w.files[n].Path()
		if _, ok := keep[n]; ok || !isPiece(w.files[0].Path(), path) {
			continue // a file that is not named as a piece of this image may be more than that
		}
		if err := fsys.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// cutAt gives up what a file has of the extent from a position on, and leaves alone
// what lies behind the extent.
func (f *flat) cutAt(end int64) error {
	st, err := f.file.Stat()
	switch {
	case err != nil:
		return err
	case st.Size > f.pos+f.size:
		from := max(end, f.pos)
		err = storage.Zero(f.file, from, f.pos+f.size-from)
	default:
		err = f.file.Truncate(end)
	}
	if err != nil {
		return err
	}
	return f.file.Sync()
}

// resizedText is the descriptor of a disk of another capacity: the sizes in the extent
// lines, and the geometry as far as there is one.
func (w *writer) resizedText(capacity int64) ([]byte, error) {
	text, err := w.currentText()
	if err != nil {
		return nil, err
	}
	var added []extentLine
	if w.addsPieces(capacity) {
		if added, err = w.newPieces(capacity); err != nil {
			return nil, err
		}
	}
	sizes, n := w.sizesFor(capacity), 0
	var lines [][]byte
	for _, line := range bytes.SplitAfter(text, []byte("\n")) {
		e, ok, err := parseExtentLine(strings.Trim(string(line), " \t\r\f\v\n"))
		if err == nil && ok {
			if n++; n > len(sizes) {
				continue
			}
			line = bytes.Replace(line, strconv.AppendInt(nil, e.Sectors, 10), strconv.AppendInt(nil, sizes[n-1], 10), 1)
		}
		if lines = append(lines, line); !ok || n < len(w.desc.Extents) {
			continue
		}
		if len(added) > 0 && !bytes.HasSuffix(line, []byte("\n")) {
			lines = append(lines, []byte("\n"))
		}
		for _, e := range added {
			lines = append(lines, []byte(e.text()))
		}
	}
	t := &editor{text: bytes.Join(lines, nil)}
	d := w.desc
	if g := d.geometry("cylinders", "heads", "sectors", 16); g != (vdcore.Geometry{}) {
		g = vdcore.PhysicalGeometry(capacity)
		t.geometry(&g, "cylinders", "heads", "sectors")
	}
	if t.has("ddb.geometry.biosCylinders") {
		g := d.geometry("bioscylinders", "biosheads", "biossectors", 255).Resized(capacity)
		t.geometry(&g, "biosCylinders", "biosHeads", "biosSectors")
	}
	return t.text, t.err
}
