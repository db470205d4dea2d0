package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"vdfs/vdcore"
)

// addition is a table, or a directory, that is written behind all that is in use.
type addition struct {
	t    int64 // the table's number
	main bool  // of the primary set
	data []byte
	pos  int64
}

// place plans the changes that make table t, in each set, what is wanted.
func (m *mender) place(t int64, p pair, w twin, want []byte) error {
	empty := len(bytes.Trim(want, "\x00")) == 0
	for _, side := range []struct {
		main bool
		at   int64
		have []byte
	}{{true, p.main, w.main}, {false, p.spare, w.spare}} {
		switch {
		case !side.main && !m.spared:
		case side.at != 0:
			if err := m.patch(side.at, side.have, want); err != nil {
				return err
			}
		case empty && p.main == 0:
			m.enter(t, side.main, 0)
		default:
			m.added = append(m.added, addition{t: t, main: side.main, data: want})
			if m.made += int64(len(want)); m.made > vdcore.MaxRepair {
				return vdcore.ErrTooMuch
			}
		}
	}
	if empty && p.main == 0 && p.spare != 0 { // and both directories forget it
		m.enter(t, false, 0)
	}
	return nil
}

// patch plans the entries in which a table differs from what is wanted, those that
// follow each other at once.
func (m *mender) patch(at int64, have, want []byte) error {
	for k := int64(0); k < int64(len(have)); k += m.width {
		end := k
		for end < int64(len(have)) && !bytes.Equal(have[end:end+m.width], want[end:end+m.width]) {
			end += m.width
		}
		if end == k {
			continue
		}
		if m.made += end - k; m.made > vdcore.MaxRepair {
			return vdcore.ErrTooMuch
		}
		m.step.tables = append(m.step.tables, vdcore.Patch{File: m.index, Pos: at + k, Data: bytes.Clone(want[k:end])})
		k = end
	}
	return nil
}

// enter plans the entry of table t in a directory that is there.
func (m *mender) enter(t int64, main bool, pos int64) {
	dir := m.dirs.spare
	if main {
		dir = m.dirs.main
	}
	if dir == 0 { // a new one, which has it
		return
	}
	m.step.entries = append(m.step.entries, vdcore.Patch{File: m.index, Pos: dir + t*m.width,
		Data: binary.LittleEndian.AppendUint32(nil, uint32(pos/sector))})
}

// lostTable forgets a table that is in neither set.
func (m *mender) lostTable(t int64) error {
	gone := m.dirs.main == 0
	for _, main := range []bool{true, false} {
		dir := m.dirs.spare
		if main {
			dir = m.dirs.main
		}
		if dir != 0 && !m.dirEntryFree(dir, t) {
			m.enter(t, main, 0)
			gone = gone || main
		}
	}
	if gone && (m.dirs.main != 0 || !m.dirEntryFree(m.dirs.spare, t)) {
		m.table.Lose(m.at+t*m.span(), min(m.span(), m.covered-t*m.span()))
		m.lost = true
	}
	return nil
}

// finish says what is wrong and puts the steps together: what is new, behind all that
// is in use; then entries, each of which is right or wrong by itself; then the header;
// then the end of the file.
func (m *mender) finish() {
	end := m.addTables()
	m.say()
	if end > m.length && (m.torn.Bytes > 0 || len(m.added) > 0) {
		m.plan.Steps = append(m.plan.Steps, []vdcore.Patch{{File: m.index, Resize: true, Pos: end}})
	}
	m.plan.Steps = append(m.plan.Steps, m.appends(), append(m.step.tables, m.step.entries...), m.mendHeader())
	if !m.packed && end < m.length {
		m.mend(vdcore.Finding{Code: codeTail, Leak: true, Bytes: m.length - end,
			Text: fmt.Sprintf("%s: %d bytes at its end hold nothing", m.name, m.length-end)}, "they are cut off, and kept in the backup")
		m.plan.Steps = append(m.plan.Steps, []vdcore.Patch{{File: m.index, Resize: true, Pos: end}})
	}
	m.plan.Steps = slices.DeleteFunc(m.plan.Steps, func(step []vdcore.Patch) bool { return len(step) == 0 })
}

func (m *mender) mend(f vdcore.Finding, does string) {
	m.plan.Mends = append(m.plan.Mends, vdcore.Mend{Finding: f, Does: does})
}

// addTables finds places for what is added, new directories last, and returns where
// the file ends then.
func (m *mender) addTables() (end int64) {
	if end = m.claims.end; m.packed {
		end = m.length
	}
	end = (end + sector - 1) / sector * sector
	fresh := map[bool][]byte{}
	for _, main := range []bool{true, false} {
		if m.missing(main) {
			fresh[main] = make([]byte, int64(m.h.entries())*m.width)
		}
	}
	for k := range m.added {
		a := &m.added[k]
		a.pos, end = end, end+int64(len(a.data))
		if dir := fresh[a.main]; dir != nil {
			binary.LittleEndian.PutUint32(dir[a.t*m.width:], uint32(a.pos/sector))
		} else {
			m.enter(a.t, a.main, a.pos)
		}
	}
	for _, main := range []bool{true, false} {
		dir := fresh[main]
		if dir == nil {
			continue
		}
		m.added = append(m.added, addition{main: main, data: dir, pos: end})
		if main {
			m.dirs.main = end
			m.mend(m.finding(codeDirectory, "the grain directory lies past the end of the file, or nowhere"), "a new one is made, with copies of the redundant tables")
		} else {
			m.dirs.spare = end
			m.mend(m.finding(codeSpareDir, "the redundant grain directory lies past the end of the file, or nowhere"), "a new one is made, with copies of the primary tables")
		}
		end += (int64(len(dir)) + sector - 1) / sector * sector
	}
	return end
}

// missing reports whether a directory that should be there is not.
func (m *mender) missing(main bool) bool {
	if main {
		return m.dirs.main == 0
	}
	return m.spared && m.dirs.spare == 0
}

func (m *mender) appends() (step []vdcore.Patch) {
	for _, a := range m.added {
		step = append(step, vdcore.Patch{File: m.index, Pos: a.pos, Data: a.data})
	}
	return step
}

// say adds what was found to the plan.
func (m *mender) say() {
	for _, v := range []*verdict{&m.table, &m.outside, &m.inMeta, &m.shared, &m.record} {
		if v.count == 0 {
			continue
		}
		v.Text = m.name + ": " + fmt.Sprintf(v.Text, v.count)
		if v.right > 0 {
			v.Text += fmt.Sprintf("; %d of them are right in the redundant tables", v.right)
		}
		m.plan.Mends = append(m.plan.Mends, v.Mend)
	}
	if m.torn.Bytes > 0 {
		m.plan.Mends = append(m.plan.Mends, m.torn)
	}
	if m.spareTables > 0 {
		m.mend(m.finding(codeSpareTable, "%d entries of the redundant grain directory lead past the end of the file, or into the header or a directory", m.spareTables),
			"the primary tables are copied")
	}
	if m.differing > 0 {
		f := m.finding(codeDiffer, "%d redundant grain tables differ from the primary ones, which are used", m.differing)
		does := "where only one of two entries leads to a grain of its own, it counts; else the primary one does"
		if m.stale() {
			f.Text += "; the file was not closed, and the next write mends it"
			f.Leak, does = true, "the primary ones are copied over them"
		}
		m.mend(f, does)
	}
}

// mendHeader plans the directories' places, and that the file is closed: one write
// inside the first sector.
func (m *mender) mendHeader() []vdcore.Patch {
	if m.footed {
		return nil
	}
	m.sayUnclean()
	h := *m.h
	h.Unclean = 0
	h.Directory = uint64(m.dirs.main / sector)
	if m.spared {
		h.Flags |= flagSpare
		h.SpareDirectory = uint64(m.dirs.spare / sector)
	}
	if h == *m.h {
		return nil
	}
	return []vdcore.Patch{{File: m.index, Pos: flagsAt, Data: h.bytes()[flagsAt : uncleanAt+1]}}
}

// sayUnclean: in a file that was not closed there may be room between the grains that
// holds something of no use, and that writing uses again.
func (m *mender) sayUnclean() {
	if m.h.Unclean == 0 {
		return
	}
	m.mend(vdcore.Finding{Code: codeUnclean, Odd: true, Text: m.name + ": the file was open for writing when it was last used"}, "it is marked as closed")
	between := int64(0)
	if !m.packed {
		for _, a := range m.claims.gaps(m.h.overhead(m.claims.end)) {
			between += a.to - a.from
		}
	}
	if between > 0 {
		m.mend(vdcore.Finding{Code: codeLeaked, Leak: true, Bytes: between,
			Text: fmt.Sprintf("%s: room for %d grains between those in use may hold something of no use", m.name, between/m.grain)},
			"it stays, and the next writer uses it")
	}
}
