package vmdk

import (
	"bytes"

	"vdfs/vdcore/storage"
)

// mend makes the redundant tables of a file that was not closed say what the
// primary ones say, which is what was read so far. VirtualBox has a consistency
// check that compares the sets, and whoever loses a primary table reads the other.
func (g *grains) mend() error {
	if g.spare == 0 {
		return nil
	}
	made := map[int64]int64{} // redundant tables that were missing
	for t := range g.tableCount() {
		pos, err := g.mendTable(t)
		if err != nil {
			return err
		}
		if pos != 0 {
			made[t] = pos
		}
	}
	if len(made) == 0 {
		return nil
	}
	if err := g.grow(); err != nil {
		return err
	}
	if err := g.file.DataSync(); err != nil { // the tables before the entries
		return err
	}
	for t, pos := range made {
		if err := g.putEntry(g.spare, t, pos); err != nil {
			return err
		}
	}
	return nil
}

// mendTable mends the redundant copy of table t. If that is missing it returns
// where a new one lies, which the directory is still to be told of.
func (g *grains) mendTable(t int64) (made int64, err error) {
	entry, err := g.dirEntry(g.dir, t)
	if err != nil {
		return 0, err
	}
	spare, err := g.dirEntry(g.spare, t)
	switch {
	case err != nil || entry == 0 && spare == 0:
		return 0, err
	case entry == 0:
		return 0, g.putEntry(g.spare, t, 0)
	}
	table := make([]byte, g.perTable*g.width)
	want := table[:g.tableSize(t)]
	if err := storage.ReadFull(g.file, want, int64(entry)*sector); err != nil {
		return 0, err
	}
	if spare == 0 {
		return g.writeTable(table)
	}
	have := make([]byte, len(want))
	pos := int64(spare) * sector
	if err := storage.ReadFull(g.file, have, pos); err != nil || bytes.Equal(have, want) {
		return 0, err
	}
	return 0, g.tables.WriteAt(g.file, want, pos)
}
