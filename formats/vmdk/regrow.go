package vmdk

import (
	"encoding/binary"
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// canGrow checks what only a sparse file with its descriptor inside can be refused for.
func (w *writer) canGrow(g *grains, capacity int64) error {
	h := *g.head.(*hostedHeader)
	h.Capacity = g.capacityFor(capacity)
	if err := h.checkTables(); err != nil {
		return fmt.Errorf("a disk of %d bytes: %w: %w", capacity, vdcore.ErrUnsupported, err)
	}
	n := int64(h.entries())
	if end := g.alloc.end + 2*(n*g.width+n*g.perTable*g.width) + maxDescriptorArea; end > maxPlace {
		return fmt.Errorf("the file would reach 2 TiB, and grain tables can tell of no place beyond: %w", vdcore.ErrUnsupported)
	}
	text, err := w.resizedText(capacity)
	if room := int64(h.DescriptorSize) * sector; err == nil && int64(len(text)) >= room {
		err = fmt.Errorf("the descriptor would have %d bytes, and the file has room for %d: %w", len(text), room-1, vdcore.ErrUnsupported)
	}
	return err
}

// capacityFor is what the header says of an extent of so many bytes, in sectors: whole
// grains.
func (g *grains) capacityFor(size int64) uint64 {
	return uint64((size + g.grain - 1) / g.grain * g.grain / sector)
}

// resizeEmbedded lays out directories and tables for what is new, and the new text,
// behind everything else. One write of the header's sector leads to all of it. Then
// the text goes to its place behind the header.
func (w *writer) resizeEmbedded(fsys storage.FS, capacity int64, text []byte) error {
	g := w.sparse()[0]
	h := g.head.(*hostedHeader)
	old := *h
	if capacity > g.size {
		if err := g.zeroTail(); err != nil {
			return err
		}
		if err := g.layTables(capacity); err != nil {
			return err
		}
	}
	at := (g.alloc.end + sector - 1) / sector * sector
	whole := make([]byte, old.DescriptorSize*sector)
	copy(whole, text)
	if err := g.file.Truncate(at); err != nil {
		return err
	}
	if _, err := g.file.WriteAt(whole, at); err != nil {
		return err
	}
	if err := g.file.DataSync(); err != nil {
		return err
	}
	h.Capacity, h.DescriptorOffset = g.capacityFor(capacity), uint64(at/sector)
	if err := g.mark(true); err != nil {
		return err
	}
	if err := g.file.DataSync(); err != nil {
		return err
	}
	w.own.DescriptorOffset, w.textAt = h.DescriptorOffset, at
	if err := w.putEmbedded(fsys, nil, text); err != nil {
		return err
	}
	return w.readAgain(g, capacity)
}

// zeroTail makes zeros of what the last grain has behind the end of the disk.
func (g *grains) zeroTail() error {
	last := g.size - 1 - (g.size-1)%g.grain
	held, err := g.mapTo(nil, g.at+last, g.end())
	if err != nil || held[0].Kind != vdcore.Data {
		return err
	}
	return storage.Zero(g.file, held[0].Pos+g.size-last, last+g.grain-g.size)
}

// layTables writes directories that lead to the tables there are, and to new ones of
// zeros. The last of the old tables, if a part of it was not in use, is copied: what
// follows that part in the file may be something else.
func (g *grains) layTables(capacity int64) error {
	h := *g.head.(*hostedHeader)
	h.Capacity = g.capacityFor(capacity)
	n, keep := int64(h.entries()), g.tableCount()
	if h.Capacity <= g.capacityFor(g.covered) {
		return nil
	}
	var last []byte
	if used := g.tableSize(keep - 1); used < g.perTable*g.width {
		keep--
		pos, _, err := g.tablesOf(keep)
		if err != nil {
			return err
		}
		if last = make([]byte, used); pos.main != 0 {
			if err := g.tables.ReadAt(g.file, last, pos.main); err != nil {
				return err
			}
		}
	}
	dirs := []*int64{&g.dir}
	if g.spare != 0 {
		dirs = []*int64{&g.spare, &g.dir}
	}
	for _, dir := range dirs {
		pos, err := g.layDirectory(*dir, keep, n, last)
		if err != nil {
			return err
		}
		*dir = pos
	}
	head := g.head.(*hostedHeader)
	head.Directory, head.SpareDirectory = uint64(g.dir/sector), uint64(g.spare/sector)
	return nil
}

// layDirectory writes a directory of n entries, of which the first keep are those of
// an old one, and behind it room for the tables of the others, the first of which
// begins with some entries.
func (g *grains) layDirectory(old, keep, n int64, first []byte) (int64, error) {
	size, table := directorySectors(n)*sector, g.perTable*g.width
	at, err := g.alloc.extend(size + (n-keep)*table)
	if err != nil {
		return 0, err
	}
	if err := g.grow(); err != nil {
		return 0, err
	}
	for t := int64(0); t < n; {
		chunk := make([]byte, min(dirChunk, (n-t)*g.width))
		if kept := min(keep-t, int64(len(chunk))/g.width); kept > 0 {
			if err := g.tables.ReadAt(g.file, chunk[:kept*g.width], old+t*g.width); err != nil {
				return 0, err
			}
		}
		start := t
		for ; t-start < int64(len(chunk))/g.width; t++ {
			if t >= keep {
				binary.LittleEndian.PutUint32(chunk[(t-start)*g.width:], uint32((at+size+(t-keep)*table)/sector))
			}
		}
		if err := g.tables.WriteAt(g.file, chunk, at+start*g.width); err != nil {
			return 0, err
		}
	}
	if len(first) == 0 {
		return at, nil
	}
	return at, g.tables.WriteAt(g.file, first, at+size)
}

// readAgain takes note of what the file is now, so that Finish knows what of it is in
// use.
func (w *writer) readAgain(g *grains, capacity int64) error {
	st, err := g.file.Stat()
	if err != nil {
		return err
	}
	head := make([]byte, hostedHeaderSize)
	if err := storage.ReadFull(g.file, head, 0); err != nil {
		return err
	}
	h, err := parseHosted(head)
	if err != nil {
		return err
	}
	r := &report{info: &vdcore.Info{}}
	now, err := newHosted(grains{
		guest: guest{0, capacity}, name: g.name, file: g.file, index: g.index, length: st.Size, tables: vdcore.NewTables(),
	}, h, r)
	if err == nil {
		err = now.allowWriting()
	}
	if err == nil {
		err = now.verify(r)
	}
	if err != nil {
		return err
	}
	w.pieces[0] = now
	return nil
}
