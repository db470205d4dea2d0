package vmdk

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"vdfs/vdcore"
)

// eachTable calls fn for the changes of each table, in the order of the guest.
func (w *writer) eachTable(changes []vdcore.Change, fn func(g *grains, t int64, part []vdcore.Change) error) error {
	sorted := slices.SortedFunc(slices.Values(changes), func(a, b vdcore.Change) int { return cmp.Compare(a.Unit.Off, b.Unit.Off) })
	for len(sorted) > 0 {
		g, ok := w.pieces[w.pieceAt(sorted[0].Unit.Off)].(*grains)
		if !ok {
			return fmt.Errorf("guest byte %d lies in a flat extent, which has no tables: %w", sorted[0].Unit.Off, vdcore.ErrUnsupported)
		}
		t := (sorted[0].Unit.Off - g.at) / g.span()
		end := min(g.at+(t+1)*g.span(), g.end())
		n := 1
		for n < len(sorted) && sorted[n].Unit.Off < end {
			n++
		}
		if err := fn(g, t, sorted[:n]); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		sorted = sorted[n:]
	}
	return nil
}

// Prepare makes the tables that are missing and the files long enough.
func (w *writer) Prepare(changes []vdcore.Change) error {
	return w.eachTable(changes, (*grains).prepare)
}

// prepare sees to it that table t is there if anything is to be entered in it.
func (g *grains) prepare(t int64, part []vdcore.Change) error {
	entry, err := g.dirEntry(g.dir, t)
	if err == nil && entry == 0 && !allFree(part) {
		err = g.newTable(t)
	}
	if err != nil {
		return err
	}
	return g.grow()
}

func allFree(part []vdcore.Change) bool {
	return !slices.ContainsFunc(part, func(c vdcore.Change) bool { return c.Kind != vdcore.Free })
}

// Publish writes the entries into the tables, first set and redundant one, then the
// directories' entries of new tables. Every entry is a number of its own in one
// sector, and means the same or nothing without the others: a new table was all
// zeros on disk before.
func (w *writer) Publish(changes []vdcore.Change) error {
	return w.eachTable(changes, (*grains).publish)
}

func (g *grains) publish(t int64, part []vdcore.Change) error {
	at, isNew, err := g.tablesOf(t)
	switch {
	case err != nil || at.main == 0 && allFree(part):
		return err
	case at.main == 0:
		return fmt.Errorf("grain table %d was not prepared: %w", t, vdcore.ErrCorrupt)
	}
	for len(part) > 0 {
		n := joined(part)
		first := (part[0].Unit.Off - g.at) % g.span() / g.grain * g.width
		run, err := g.entries(part[:n])
		if err != nil {
			return err
		}
		if err := g.writeBoth(run, newTable{at.main + first, at.spare + first}, at.spare != 0); err != nil {
			return err
		}
		part = part[n:]
	}
	if isNew {
		if err := g.publishTable(t, at); err != nil {
			return err
		}
	}
	g.state[t] = tableMain
	return nil
}

// publishTable enters a new table in the directories.
func (g *grains) publishTable(t int64, at newTable) error {
	if at.spare != 0 {
		if err := g.putEntry(g.spare, t, at.spare); err != nil {
			return err
		}
	}
	if err := g.putEntry(g.dir, t, at.main); err != nil {
		return err
	}
	delete(g.alloc.fresh, t)
	return nil
}

// tablesOf returns where table t and its redundant copy lie, 0 for one that is not
// there; isNew means that no directory knows them.
func (g *grains) tablesOf(t int64) (at newTable, isNew bool, err error) {
	entry, err := g.dirEntry(g.dir, t)
	if err != nil {
		return at, false, err
	}
	if entry == 0 {
		at, isNew = g.alloc.fresh[t]
		return at, isNew, nil
	}
	at.main = int64(entry) * sector
	if g.spare != 0 {
		entry, err = g.dirEntry(g.spare, t)
		at.spare = int64(entry) * sector
	}
	return at, false, err
}

// joined counts the changes whose entries follow each other.
func joined(part []vdcore.Change) int {
	n := 1
	for n < len(part) && part[n].Unit.Off == part[n-1].Unit.End() {
		n++
	}
	return n
}

// entries are what tables say of the changes.
func (g *grains) entries(part []vdcore.Change) ([]byte, error) {
	var run []byte
	for _, c := range part {
		entry := uint32(0)
		switch c.Kind {
		case vdcore.Data:
			entry = uint32(c.Place.Pos / sector)
		case vdcore.Zero:
			entry = 1
		case vdcore.Free:
		default:
			return nil, fmt.Errorf("a grain cannot be made %v: %w", c.Kind, vdcore.ErrUnsupported)
		}
		run = binary.LittleEndian.AppendUint32(run, entry)
	}
	return run, nil
}

func (g *grains) writeBoth(run []byte, at newTable, spare bool) error {
	if err := g.tables.WriteAt(g.file, run, at.main); err != nil || !spare {
		return err
	}
	return g.tables.WriteAt(g.file, run, at.spare)
}

// dirEntry reads entry t of the directory at dir.
func (g *grains) dirEntry(dir, t int64) (uint32, error) {
	var buf [4]byte
	err := g.tables.ReadAt(g.file, buf[:], dir+t*g.width)
	return binary.LittleEndian.Uint32(buf[:]), err
}

// putEntry writes entry t of the directory at dir.
func (g *grains) putEntry(dir, t, pos int64) error {
	var buf [4]byte
	binary.LittleEndian.PutUint32(buf[:], uint32(pos/sector))
	return g.tables.WriteAt(g.file, buf[:], dir+t*g.width)
}
