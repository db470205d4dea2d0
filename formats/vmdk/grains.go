package vmdk

import (
	"encoding/binary"
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// grains is an extent whose file holds grains found through two levels of
// tables: a directory of tables, tables of grains. Hosted sparse files, COWD and
// seSparse differ in the width and meaning of the entries, which coder hides.
type grains struct {
	guest
	coder
	name   string // of the file, for messages
	file   storage.File
	index  int   // of file in image.files
	length int64 // of the file
	tables *vdcore.Tables
	packed bool // grains are compressed
	footed bool // the directory's place is told in a footer at the end
	head   any  // the parsed header

	grain    int64  // bytes
	perTable int64  // entries of one table
	step     uint64 // between the entries of grains that follow each other; 0: not known from the entries
	width    int64  // bytes of an entry, 4 or 8
	covered  int64  // guest bytes the directory reaches, at most size
	dir      int64  // where the directory begins in the file
	spare    int64  // where the redundant directory begins; 0 when there is none

	meta  []area // where no grain may lie; bounded, see noteMeta
	above int64  // the end of the last of them
	state []tableState
	bad   map[int64]bool // compressed grains found damaged, by guest offset in the extent; bounded, see tryUnpack

	known    []known // what the tables hold, in order of the guest, where knowsAll
	knowsAll bool

	alloc *allocator // nil unless the image is open for writing

	flaws func() *flaws // what is said of damaged ranges
}

// flaws are errors that are made once, and only where there is one of them: a damaged
// image can have millions of damaged grains.
type flaws struct{ pastEOF, inMeta, badEntry, badTable, uncovered error }

// coder says what entries mean.
type coder interface {
	// table returns where the table of a non-zero directory entry lies; ok is
	// false for an entry that is none.
	table(entry uint64) (pos int64, ok bool)
	// grain returns what an entry of a table says, Lost for nonsense.
	grainOf(entry uint64) (kind vdcore.Kind, pos int64)
}

// tableState is what verify learnt of one table. Maps of an empty disk are
// answered from this alone.
type tableState byte

const (
	tableEmpty tableState = iota // absent, or all its entries are 0
	tableMain                    // in the directory
	tableSpare                   // in the redundant directory, the other is unusable
	tableLost                    // in neither
)

// maxTables bounds the directories of one image: 512 TiB of ordinary grains.
const maxTables = 16 << 20

// area is a byte range of the file.
type area struct{ from, to int64 }

func (g *grains) header() any { return g.head }

// span is how much of the guest one table covers.
func (g *grains) span() int64 { return g.grain * g.perTable }

// tableCount is how many directory entries matter.
func (g *grains) tableCount() int64 { return (g.covered + g.span() - 1) / g.span() }

// tableSize is how many bytes of table t matter: the last one may be cut.
func (g *grains) tableSize(t int64) int64 {
	used := min(g.covered-t*g.span(), g.span())
	return (used + g.grain - 1) / g.grain * g.width
}

// newFlaws makes the errors.
func (g *grains) newFlaws() *flaws {
	wrap := func(code, what string) error {
		return vdcore.Flaw(code, fmt.Errorf("%s: %s: %w", g.name, what, vdcore.ErrCorrupt))
	}
	return &flaws{
		pastEOF:   wrap(codeOutside, fmt.Sprintf("grain past the end of the file at %d", g.length)),
		inMeta:    wrap(codeInMeta, "grain inside the header or the tables"),
		badEntry:  wrap("grain-entry", "grain table entry of an unknown kind"),
		badTable:  wrap(codeTable, fmt.Sprintf("grain table past the end of the file at %d, or shared, or misplaced", g.length)),
		uncovered: wrap("capacity-short", fmt.Sprintf("the header's capacity ends at %d bytes, the extent has %d", g.covered, g.size)),
	}
}

// noteMeta forbids [pos, pos+n) to grains. The list is bounded: what lies behind
// its first entries is an embellishment, not a promise.
func (g *grains) noteMeta(pos, n int64) {
	if n > 0 && len(g.meta) < 16 {
		g.meta = append(g.meta, area{pos, pos + n})
		g.above = max(g.above, pos+n)
	}
}

func (g *grains) hitsMeta(pos, n int64) bool {
	if pos >= g.above {
		return false
	}
	for _, a := range g.meta {
		if pos < a.to && pos+n > a.from {
			return true
		}
	}
	return false
}

// inside reports whether [pos, pos+n) lies in the file, behind its first sector.
func (g *grains) inside(pos, n int64) bool {
	return pos >= sector && pos <= g.length-n
}

// locate says where an entry leads and how many of the n bytes wanted there the
// file has; what is Lost has none, and why says so.
func (g *grains) locate(entry uint64, n int64) (kind vdcore.Kind, pos, avail int64, why error) {
	kind, pos = g.grainOf(entry)
	switch kind {
	case vdcore.Data:
		avail = min(n, g.length-pos)
	case vdcore.Packed:
		avail = n
		if pos > g.length-markerSize {
			avail = 0
		}
		n = markerSize
	case vdcore.Lost:
		return vdcore.Lost, 0, 0, g.flaws().badEntry
	default:
		return kind, 0, n, nil
	}
	switch {
	case avail <= 0:
		return vdcore.Lost, 0, 0, g.flaws().pastEOF
	case g.hitsMeta(pos, n):
		return vdcore.Lost, 0, 0, g.flaws().inMeta
	}
	return kind, pos, avail, nil
}

// entry reads the i-th entry of a table or directory.
func (g *grains) entry(buf []byte, i int64) uint64 {
	if g.width == 8 {
		return binary.LittleEndian.Uint64(buf[i*8:])
	}
	return uint64(binary.LittleEndian.Uint32(buf[i*4:]))
}

// tablePos returns where the table t lies, by its state.
func (g *grains) tablePos(t int64) (int64, error) {
	dir := g.dir
	if g.state[t] == tableSpare {
		dir = g.spare
	}
	var buf [8]byte
	if err := g.tables.ReadAt(g.file, buf[:g.width], dir+t*g.width); err != nil {
		return 0, err
	}
	return g.tableAt(t, g.entry(buf[:], 0))
}

// placeOf is tablePos where the entry of the directory is at hand.
func (g *grains) placeOf(t int64, entry uint64) (int64, error) {
	if g.state[t] == tableSpare {
		return g.tablePos(t)
	}
	return g.tableAt(t, entry)
}

// tableAt returns where the table t lies, by its entry.
func (g *grains) tableAt(t int64, entry uint64) (int64, error) {
	pos, ok := g.table(entry)
	if !ok || !g.inside(pos, g.tableSize(t)) {
		return 0, g.flaws().badTable // verify saw it fine: the file changed since
	}
	return pos, nil
}

// mapTo walks the tables [lo, hi) touches. From here on offsets are relative to
// the piece until add makes them the disk's again.
func (g *grains) mapTo(dst []vdcore.Extent, lo, hi int64) ([]vdcore.Extent, error) {
	lo, hi = lo-g.at, hi-g.at
	end := min(hi, g.covered)
	for lo < end {
		t := lo / g.span()
		next := t + 1
		var err error
		switch state := g.state[t]; state {
		case tableEmpty, tableLost:
			for next*g.span() < end && g.state[next] == state {
				next++
			}
			kind := vdcore.Free
			if state == tableLost {
				kind = vdcore.Lost
			}
			dst = g.add(dst, vdcore.Extent{Off: lo, Len: min(next*g.span(), end) - lo, Kind: kind})
		default:
			dst, err = g.mapTable(dst, t, lo, min(next*g.span(), end))
		}
		if err != nil {
			return nil, err
		}
		lo = min(next*g.span(), end)
	}
	return g.add(dst, vdcore.Extent{Off: lo, Len: hi - lo, Kind: vdcore.Lost}), nil
}

// mapTable appends [lo, hi), which lies inside table t.
func (g *grains) mapTable(dst []vdcore.Extent, t, lo, hi int64) ([]vdcore.Extent, error) {
	if g.knowsAll {
		return g.mapKnown(dst, lo, hi), nil
	}
	pos, err := g.tablePos(t)
	if err != nil {
		return nil, err
	}
	var buf [4096]byte
	for lo < hi {
		first := lo % g.span() / g.grain
		last := min((hi-1)%g.span()/g.grain+1, first+int64(len(buf))/g.width)
		entries := buf[:(last-first)*g.width]
		if err := g.tables.ReadAt(g.file, entries, pos+first*g.width); err != nil {
			return nil, err
		}
		next := min(t*g.span()+last*g.grain, hi)
		dst = g.mapEntries(dst, entries, lo, next)
		lo = next
	}
	return dst, nil
}

// mapEntries appends [lo, hi); the first entry is that of the grain lo lies in.
func (g *grains) mapEntries(dst []vdcore.Extent, entries []byte, lo, hi int64) []vdcore.Extent {
	start := lo - lo%g.grain
	for i := int64(0); start < hi; {
		n := g.runAt(entries, i)
		dst = g.mapRun(dst, g.entry(entries, i), start, max(lo, start), min(start+n*g.grain, hi))
		i, start = i+n, start+n*g.grain
	}
	return dst
}

// mapRun appends [from, end) of the grains that begin at start, to the first of
// which entry leads.
func (g *grains) mapRun(dst []vdcore.Extent, entry uint64, start, from, end int64) []vdcore.Extent {
	kind, pos, avail, _ := g.locate(entry, min((end-start+g.grain-1)/g.grain*g.grain, g.covered-start))
	if kind == vdcore.Packed && g.bad[start] {
		kind = vdcore.Lost
	}
	e := vdcore.Extent{Off: from, Kind: kind}
	cut := end
	switch kind {
	case vdcore.Data:
		e.File, e.Pos = g.index, pos+from-start
		cut = min(max(start+avail, from), end)
	case vdcore.Packed:
		e.File, e.Pos, e.Skip = g.index, pos, from-start
	}
	e.Len = cut - from
	dst = g.add(dst, e)
	return g.add(dst, vdcore.Extent{Off: cut, Len: end - cut, Kind: vdcore.Lost})
}

// runAt counts the entries from the i-th on that are one answer: all free, or all
// leading to grains that follow each other in the file. Disks written in order
// are mapped and checked at the speed of this loop.
func (g *grains) runAt(entries []byte, i int64) int64 {
	first, step := g.entry(entries, i), g.step
	switch {
	case first == 0:
		return int64(zeroBytes(entries[i*g.width:])) / g.width
	case step == 0 || first == 1: // 1 may mean zeros
		return 1
	}
	k, next := int64(1), first+step
	if rest := entries[i*g.width:]; g.width == 4 {
		for ; int64(len(rest)) >= 4*k+4 && uint64(binary.LittleEndian.Uint32(rest[4*k:])) == next; k++ {
			next += step
		}
	} else {
		for ; int64(len(rest)) >= 8*k+8 && binary.LittleEndian.Uint64(rest[8*k:]) == next; k++ {
			next += step
		}
	}
	return g.alike(int64(first)*sector, k)
}

// alike cuts a run of k grains at pos so that either none or each of them lies
// over metadata.
func (g *grains) alike(pos, k int64) int64 {
	if pos >= g.above {
		return k
	}
	for _, a := range g.meta {
		switch {
		case a.to <= pos || a.from >= pos+k*g.grain:
		case a.from < pos+g.grain: // the first is, and so are all up to its end
			return min(k, (a.to-pos+g.grain-1)/g.grain)
		default:
			k = (a.from - pos) / g.grain
		}
	}
	return k
}

func (g *grains) add(dst []vdcore.Extent, e vdcore.Extent) []vdcore.Extent {
	e.Off += g.at
	return vdcore.Append(dst, e)
}
