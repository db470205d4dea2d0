package vmdk

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// maxMended bounds the tables of a file that is mended, each of which is kept track
// of: 32 TiB of ordinary grains.
const maxMended = 1 << 20

// mender judges both sets of tables of one hosted sparse file, and decides what every
// entry should be:
//
//   - An entry of the primary set that leads to a grain is kept if that lies in the
//     file, over nothing else, and is nobody else's.
//   - If not, the redundant entry is taken, under the same conditions; also where the
//     primary one is free, unless the file was not closed: then the primary set is the
//     newer one.
//   - Entries both sets agree on come first. So of two that lead to one grain the
//     redundant set can tell which one is wrong.
//   - Otherwise the entry becomes free, and its grain is lost.
type mender struct {
	*grains
	h      *hostedHeader
	plan   *vdcore.RepairPlan
	dirs   pair   // where the directories lie; 0: missing or outside
	spared bool   // there is a redundant set, or should be one
	tables []pair // where the tables lie
	claims *claims
	losers map[int64]bool // grains both sets agree on that are another's, by number
	full   bool           // more grains than can be kept apart

	outside, inMeta, shared, record, table verdict
	torn                                   vdcore.Mend
	spareTables, differing                 int64 // tables
	unlike                                 bool  // the sets differ in this table, and the primary one is right

	added []addition
	step  struct{ tables, entries []vdcore.Patch }
	made  int64 // bytes of tables in the plan
	lost  bool  // a table is in neither set
}

// pair is a place in each set, 0 where there is none.
type pair struct{ main, spare int64 }

// verdict is one rule and the entries that break it, some of which the redundant
// tables have right.
type verdict struct {
	vdcore.Mend
	count, right int64
}

// planRepair adds to the plan what mends the file. lost means that a table is gone
// whose grains could be found by a scan, as they are compressed and named.
func (g *grains) planRepair(ctx context.Context, plan *vdcore.RepairPlan) (lost bool, err error) {
	m := &mender{grains: g, h: g.head.(*hostedHeader), plan: plan, losers: map[int64]bool{}}
	if g.tableCount() > maxMended {
		f := m.finding(codeTooMany, "%d grain tables are more than are compared and mended; they were read when it was opened", g.tableCount())
		f.Odd = true
		plan.Kept = append(plan.Kept, f)
		return false, nil
	}
	m.describe()
	if err := m.findTables(); err != nil {
		return false, err
	}
	if at, ok := m.settle(); !ok {
		m.keep(codeOverlap, "two of its tables, or a table and the header, share bytes at %d", at)
		return g.packed, nil
	}
	if !g.packed { // a record names its grain, so none is another's
		if err := m.eachTable(ctx, m.claimAgreed); err != nil {
			return false, err
		}
	}
	if err := m.eachTable(ctx, m.mendTable); err != nil {
		return false, err
	}
	if m.full {
		m.keep(codeTooMany, "it has more grains than can be kept apart")
		return false, nil
	}
	if m.lost = g.packed && (m.lost || g.footed && len(m.added) > 0); !m.lost {
		m.finish()
	}
	return m.lost, nil
}

func (m *mender) finding(code, format string, args ...any) vdcore.Finding {
	return vdcore.Finding{Code: code, Text: m.name + ": " + fmt.Sprintf(format, args...)}
}

func (m *mender) keep(code, format string, args ...any) {
	m.plan.Kept = append(m.plan.Kept, m.finding(code, format, args...))
}

// describe prepares what is to be said. A verdict's text has a place for a count.
func (m *mender) describe() {
	const free = "the redundant entry is used where that is right; the others become free"
	mend := func(code, text, does string) vdcore.Mend {
		return vdcore.Mend{Finding: vdcore.Finding{Code: code, Text: text}, Does: does}
	}
	m.outside.Mend = mend(codeOutside, "%d grain table entries lead past the end of the file", free)
	m.inMeta.Mend = mend(codeInMeta, "%d grain table entries lead into the header or the tables", free)
	m.shared.Mend = mend(codeShared, "%d grain table entries lead to a grain that is another's",
		"the redundant entry is used where that is right; else the first one keeps the grain, though it may be the wrong one, and the others become free")
	m.record.Mend = mend(codeRecord, "%d compressed grains do not unpack", free)
	m.table.Mend = mend(codeTable, "%d grain directory entries lead past the end of the file, or into the header or a directory",
		"the redundant table is copied; where there is none, the whole table becomes free")
	m.torn = vdcore.Mend{Finding: m.finding(codeTorn, "the file ends at %d, inside a grain in use", m.length),
		Does: "the file is made longer: what is there of the grain stays, the rest of it becomes zeros"}
}

// findTables finds the directories, and in them the tables that lie in the file and
// not over the header, the descriptor or the directories.
func (m *mender) findTables() error {
	n := int64(m.h.entries()) * m.width
	m.dirs.main = directoryAt(m.h.Directory, n, m.length)
	m.spared = m.h.Flags&flagSpare != 0
	m.dirs.spare = directoryAt(m.h.SpareDirectory, n, m.length)
	if !m.spared && m.h.Unclean != 0 && m.dirs.spare != 0 { // out of use while the file is open
		m.spared = true
	}
	if !m.spared {
		m.dirs.spare = 0
	}
	m.claims = &claims{name: m.name, cells: newCells(m.grain, m.length), end: m.h.overhead(m.length)}
	m.claims.add(0, hostedHeaderSize)
	if pos, n, err := m.h.descriptorArea(m.length); err == nil {
		m.claims.add(pos, n)
	}
	for _, dir := range []int64{m.dirs.main, m.dirs.spare} {
		if dir != 0 {
			m.claims.add(dir, n)
		}
	}
	sortAreas(m.claims.areas)
	return m.readDirectories()
}

func sortAreas(list []area) {
	slices.SortFunc(list, func(a, b area) int { return cmp.Compare(a.from, b.from) })
}

// readDirectories fills tables.
func (m *mender) readDirectories() error {
	count := m.tableCount()
	main, spare := make([]byte, count*m.width), make([]byte, count*m.width)
	for _, d := range []struct {
		at int64
		b  []byte
	}{{m.dirs.main, main}, {m.dirs.spare, spare}} {
		if d.at == 0 {
			continue
		}
		if err := storage.ReadFull(m.file, d.b, d.at); err != nil {
			return err
		}
	}
	fixed := slices.Clone(m.claims.areas)
	m.tables = make([]pair, count)
	for t := range count {
		p := &m.tables[t]
		var bad bool
		if p.main, bad = m.usable(fixed, t, m.entry(main, t)); bad {
			m.table.count++
		}
		mainBad := bad
		if p.spare, bad = m.usable(fixed, t, m.entry(spare, t)); bad {
			m.spareTables++
		}
		if mainBad && p.spare != 0 {
			m.table.right++
		}
		for _, pos := range []int64{p.main, p.spare} {
			if pos != 0 {
				m.claims.add(pos, m.tableSize(t))
				m.claims.end = max(m.claims.end, pos+m.perTable*m.width)
			}
		}
	}
	return nil
}

// usable is the place of a table, 0 for none; bad means that the entry is wrong.
func (m *mender) usable(fixed []area, t int64, entry uint64) (pos int64, bad bool) {
	pos, n := int64(entry)*sector, m.tableSize(t)
	switch {
	case entry == 0:
		return 0, false
	case !m.inside(pos, n) || hits(fixed, pos, n):
		return 0, true
	}
	return pos, false
}

// hits reports whether [pos, pos+n) touches one of the sorted areas.
func hits(list []area, pos, n int64) bool {
	k := sort.Search(len(list), func(k int) bool { return list[k].to > pos })
	return k < len(list) && list[k].from < pos+n
}

// settle sorts what the metadata take; at is where two of them overlap.
func (m *mender) settle() (at int64, ok bool) {
	sortAreas(m.claims.areas)
	for k := 1; k < len(m.claims.areas); k++ {
		if m.claims.areas[k].from < m.claims.areas[k-1].to {
			return m.claims.areas[k].from, false
		}
	}
	return 0, true
}

// twin is what both sets say of one table. A set that has no such table says what the
// other says; without any, both are zeros.
type twin struct{ main, spare []byte }

// eachTable calls fn for every table that one of the sets has.
func (m *mender) eachTable(ctx context.Context, fn func(t int64, w twin) error) error {
	for t, p := range m.tables {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if p == (pair{}) {
			if err := m.lostTable(int64(t)); err != nil {
				return err
			}
			continue
		}
		w, err := m.read(int64(t), p)
		if err == nil {
			err = fn(int64(t), w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *mender) read(t int64, p pair) (w twin, err error) {
	n := m.tableSize(t)
	for _, side := range []struct {
		at int64
		to *[]byte
	}{{p.main, &w.main}, {p.spare, &w.spare}} {
		if side.at == 0 {
			continue
		}
		*side.to = make([]byte, n)
		if err := storage.ReadFull(m.file, *side.to, side.at); err != nil {
			return w, err
		}
	}
	switch {
	case w.main == nil && m.dirEntryFree(m.dirs.main, t) && !m.stale():
		w.main = make([]byte, n) // free, says the primary directory
	case w.main == nil && m.dirEntryFree(m.dirs.main, t):
		w.main, w.spare = make([]byte, n), make([]byte, n)
	case w.main == nil:
		w.main = w.spare
	case w.spare == nil:
		w.spare = w.main
	}
	return w, nil
}

// stale: the file was not closed, so that the redundant set may lag behind.
func (m *mender) stale() bool { return m.h.Unclean != 0 }

// dirEntryFree reports whether a directory that is there has no table t.
func (m *mender) dirEntryFree(dir, t int64) bool {
	if dir == 0 {
		return false
	}
	entry, err := m.dirEntry(dir, t)
	return err == nil && entry == 0
}

// claimAgreed gives the grains both sets agree on to the first entries that lead
// there.
func (m *mender) claimAgreed(t int64, w twin) error {
	for k := range int64(len(w.main)) / m.width {
		entry := m.entry(w.main, k)
		if entry != m.entry(w.spare, k) || !m.leads(entry) {
			continue
		}
		if !m.claim(entry) {
			m.losers[t*m.perTable+k] = true
		}
	}
	return nil
}

// leads reports whether an entry leads to a grain in the file and over no metadata.
func (m *mender) leads(entry uint64) bool {
	kind, pos := m.grainOf(entry)
	return kind == vdcore.Data && pos > 0 && pos < m.length && !hits(m.claims.areas, pos, m.grain)
}

// claim takes the grain an entry leads to, if it is nobody's.
func (m *mender) claim(entry uint64) bool {
	pos := int64(entry) * sector
	clash, room := m.claims.cells.note(pos)
	if m.full = m.full || !room; clash || !room {
		return false
	}
	m.claims.end = max(m.claims.end, pos+m.grain)
	return true
}

// decide returns what the entries of one grain should be.
func (m *mender) decide(grain int64, main, spare uint64) (uint64, error) {
	off := grain * m.grain
	want := min(m.grain, m.covered-off)
	if kind, _ := m.grainOf(main); kind == vdcore.Zero || main == 0 && (spare == 0 || m.stale()) {
		m.unlike = m.unlike || main != spare
		return main, nil
	}
	why, err := m.judge(grain, main, main == spare)
	if err != nil {
		return 0, err
	}
	entry := main
	if why != nil && spare != main {
		if entry, err = m.fromSpare(grain, main, spare); err != nil {
			return 0, err
		}
	} else if why != nil {
		entry = 0
	}
	m.unlike = m.unlike || main != spare && (why == nil || main == 0)
	if why != nil && main != 0 {
		if why.count++; entry != 0 {
			why.right++
		} else {
			why.Lose(m.at+off, want)
		}
	}
	m.judgeLength(off, entry, want)
	return entry, nil
}

// fromSpare returns the redundant entry if it is right, else 0.
func (m *mender) fromSpare(grain int64, main, spare uint64) (uint64, error) {
	if kind, _ := m.grainOf(spare); kind == vdcore.Zero && main != 0 {
		return spare, nil
	}
	why, err := m.judge(grain, spare, false)
	if err != nil || why != nil {
		return 0, err
	}
	return spare, nil
}

// judge returns the rule an entry breaks, nil when it may be kept. One that both sets
// agree on has claimed its grain already.
func (m *mender) judge(grain int64, entry uint64, agreed bool) (*verdict, error) {
	kind, pos := m.grainOf(entry)
	switch {
	case kind == vdcore.Packed:
		_, err := m.unpack(nil, grain*m.grain, pos)
		if errors.Is(err, vdcore.ErrCorrupt) {
			return &m.record, nil
		}
		return nil, err
	case kind == vdcore.Data && pos < m.length && !m.leads(entry):
		return &m.inMeta, nil
	case !m.leads(entry):
		return &m.outside, nil
	case agreed && m.losers[grain], !agreed && !m.claim(entry):
		return &m.shared, nil
	}
	return nil, nil
}

// judgeLength takes note of a grain the file ends in.
func (m *mender) judgeLength(off int64, entry uint64, want int64) {
	if kind, pos := m.grainOf(entry); kind == vdcore.Data {
		held := min(want, m.length-pos)
		m.torn.Lose(m.at+off+held, want-held)
	}
}

// mendTable plans what makes table t right in both sets.
func (m *mender) mendTable(t int64, w twin) error {
	want := make([]byte, m.perTable*m.width)
	for k := range int64(len(w.main)) / m.width {
		entry, err := m.decide(t*m.perTable+k, m.entry(w.main, k), m.entry(w.spare, k))
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(want[k*m.width:], uint32(entry))
	}
	if m.unlike || m.lone(t) {
		m.differing++
		m.unlike = false
	}
	return m.place(t, m.tables[t], w, want)
}

// lone reports whether only one of two directories that are there has table t.
func (m *mender) lone(t int64) bool {
	return m.dirs.main != 0 && m.dirs.spare != 0 && m.dirEntryFree(m.dirs.main, t) != m.dirEntryFree(m.dirs.spare, t)
}
