package vmdk

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// writer is an image open for writing. Its pieces are flat files and hosted sparse
// files with an allocator.
type writer struct {
	*image
	cid, mod *field // nil where the descriptor has none
}

var _ vdcore.Writer = (*writer)(nil)

// refuse is the error for an image that is not written to.
func refuse(why string) error {
	return fmt.Errorf("%s; --overlay FILE puts a differencing image on top: %w", why, vdcore.ErrReadOnly)
}

// unsound is refuse for what a repair mends.
func unsound(why string) error {
	return vdcore.Unsound(fmt.Errorf("%s: %w", why, vdcore.ErrCorrupt))
}

// openWriter is what open does for an image that is to be written: what only the
// text can tell is settled before any other file is opened for writing.
func openWriter(args vdcore.OpenArgs, img *image, st storage.Stat) (vdcore.Image, error) {
	w := &writer{image: img}
	if err := w.judgeText(); err != nil {
		return nil, err
	}
	err := newAssembly(args, img, st).run()
	if err == nil {
		err = w.judgePieces()
	}
	if err != nil {
		return nil, errors.Join(err, closeAll(img.files[1:]))
	}
	return w, nil
}

// judgeText refuses what the descriptor alone rules out, and finds what is to be
// renewed.
func (w *writer) judgeText() error {
	for n, e := range w.desc.Extents {
		switch {
		case e.Access != accessWrite:
			return refuse(fmt.Sprintf("extent %d is marked %s", n+1, e.Access))
		case e.Type != typeSparse && !e.flat():
			return refuse(fmt.Sprintf("extent %d is of type %s, which is not written to", n+1, e.Type))
		}
	}
	if _, ok := w.desc.get("changeTrackPath"); ok {
		w.info.Warn("the descriptor names a change tracking file (changeTrackPath), which does not learn of what is written here; the next backup must be a full one")
	}
	return w.findFields()
}

// judgePieces refuses what the files rule out.
func (w *writer) judgePieces() error {
	if d := w.info.Damage; len(d) > 0 {
		return vdcore.Unsound(d[0].Err)
	}
	used := make([][]area, len(w.files))
	for _, p := range w.pieces {
		switch p := p.(type) {
		case *flat:
			used[p.index] = append(used[p.index], area{p.pos, p.pos + p.size})
		case *grains:
			used[p.index] = append(used[p.index], area{0, maxSectors * sector})
		}
	}
	for n, list := range used {
		slices.SortFunc(list, func(a, b area) int { return cmp.Compare(a.from, b.from) })
		for k := 1; k < len(list); k++ {
			if list[k].from < list[k-1].to {
				return refuse(fmt.Sprintf("two extents share bytes of %s at %d, and writing to one would change the other", w.files[n].Path(), list[k].from))
			}
		}
	}
	return nil
}

// allowWriting refuses a file with tables that is of the wrong kind, and gives any
// other its allocator.
func (g *grains) allowWriting() error {
	h, ok := g.head.(*hostedHeader)
	switch {
	case !ok:
		return refuse("COWD and seSparse extents are not written to")
	case g.packed:
		return refuse("its grains are compressed, and cannot be changed in place")
	case g.footed:
		return refuse("its directory's place is told in a footer, behind which nothing can be added")
	case h.Version == 3:
		return refuse("its header has version 3: the product that wrote it keeps track of changes, which would be missed")
	case g.dir != directoryAt(h.Directory, int64(h.entries())*g.width, g.length), h.Flags&flagSpare != 0 && g.spare == 0:
		return unsound("one of its two grain directories lies outside the file")
	case int64(h.Capacity)*sector-g.size >= max(g.grain, 64<<10):
		return refuse("its header says it is larger than its extent line does, and what it holds there could be lost")
	}
	g.findSpare(h)
	g.alloc = newAllocator(g.grain)
	return nil
}

// findSpare finds the redundant directory that begin took out of use, in a file that
// was not closed since.
func (g *grains) findSpare(h *hostedHeader) {
	if h.Flags&flagSpare == 0 && h.Unclean != 0 {
		g.spare = directoryAt(h.SpareDirectory, int64(h.entries())*g.width, g.length)
	}
}

// sparse lists the pieces with tables.
func (i *image) sparse() (list []*grains) {
	for _, p := range i.pieces {
		if g, ok := p.(*grains); ok {
			list = append(list, g)
		}
	}
	return list
}

// Unit is a grain, cut where the extent ends, or the whole of a flat extent.
func (w *writer) Unit(off int64) vdcore.Unit {
	switch p := w.pieces[w.pieceAt(off)].(type) {
	case *flat:
		return vdcore.Unit{Off: p.at, Len: p.size, Fixed: true, Place: vdcore.Place{File: p.index, Pos: p.pos}}
	case *grains:
		start := off - (off-p.at)%p.grain
		return vdcore.Unit{Off: start, Len: min(p.grain, p.end()-start), Place: vdcore.Place{File: p.index}}
	}
	return vdcore.Unit{} // judgeText lets no other piece pass
}

// Can speaks for all pieces at once: what one of them cannot, none is asked for.
func (w *writer) Can(kind vdcore.Kind) bool {
	list := w.sparse()
	for _, g := range list {
		if kind == vdcore.Zero && g.head.(*hostedHeader).Flags&flagZeroed == 0 {
			return false
		}
	}
	return len(list) > 0 && (kind == vdcore.Zero || kind == vdcore.Free)
}

// Begin leaves every file with tables marked as open, without a tail and with two
// equal sets of tables, and renews the descriptor's identity.
func (w *writer) Begin(renew bool) error {
	for _, g := range w.sparse() {
		if err := g.begin(); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	if renew {
		if err := w.renew(); err != nil {
			return err
		}
	}
	for _, f := range w.files {
		if err := f.DataSync(); err != nil {
			return err
		}
	}
	return nil
}

// begin cuts off what a crash left behind everything in use. The tables that say
// what that is may be a killed process's, and not on disk yet: those on disk must
// not lead to what is cut off, so they are synced before.
func (g *grains) begin() error {
	if err := g.file.DataSync(); err != nil {
		return err
	}
	if err := g.cut(); err != nil {
		return err
	}
	if err := g.mark(true); err != nil {
		return err
	}
	if g.head.(*hostedHeader).Unclean == 0 {
		return nil
	}
	return g.mend()
}

// cut shortens the file to what is in use.
func (g *grains) cut() error {
	st, err := g.file.Stat()
	if err != nil || st.Size <= g.alloc.end {
		return err
	}
	if err := g.file.Truncate(g.alloc.end); err != nil {
		return err
	}
	g.length = g.alloc.end
	return nil
}

// mark writes whether the file is open for writing. While it is, the redundant set
// of tables is out of use: VirtualBox refuses a file whose sets differ, which they do
// when the power goes between them. All this is in one sector.
func (g *grains) mark(open bool) error {
	h := *g.head.(*hostedHeader)
	h.Flags, h.Unclean = h.Flags&^flagSpare, 0
	switch {
	case open:
		h.Unclean = 1
	case g.spare != 0:
		h.Flags |= flagSpare
	}
	if g.spare == 0 {
		h.SpareDirectory = 0 // what lies there is no directory, and must not be taken for one after a crash
	}
	_, err := g.file.WriteAt(h.bytes()[flagsAt:uncleanAt+1], flagsAt)
	return err
}

// Finish cuts off what was given back at the end of the files, and says that they
// are closed.
func (w *writer) Finish() error {
	for _, g := range w.sparse() {
		g.alloc.trim()
		err := g.cut()
		if err == nil {
			err = g.mark(false)
		}
		if err == nil {
			err = g.file.Sync()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return nil
}

// Reserve finds a place for a grain, in the file of its extent, and makes all of it
// zeros: of the grain the disk ends in, the chain knows a part only.
func (w *writer) Reserve(u vdcore.Unit) (vdcore.Place, error) {
	g, ok := w.pieces[w.pieceAt(u.Off)].(*grains)
	if !ok {
		return vdcore.Place{}, fmt.Errorf("guest byte %d lies in a flat extent, which has its place: %w", u.Off, vdcore.ErrUnsupported)
	}
	pos, err := g.alloc.reserve()
	if err == nil {
		if err = storage.Zero(g.file, pos, g.grain); err != nil {
			g.alloc.release(pos)
		}
	}
	if err != nil {
		return vdcore.Place{}, fmt.Errorf("%s: %w", g.name, err)
	}
	return vdcore.Place{File: g.index, Pos: pos}, nil
}

// Release gives a place back to the one extent that has the file.
func (w *writer) Release(p vdcore.Place) {
	for _, g := range w.sparse() {
		if g.index == p.File {
			g.alloc.release(p.Pos)
		}
	}
}
