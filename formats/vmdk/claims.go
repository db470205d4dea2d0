package vmdk

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"vdfs/vdcore"
)

const (
	// maxClaims bounds the pieces the metadata of one file are in: the tables of a
	// full 2 TiB file, both sets, each allocated on its own, are an eighth of it.
	maxClaims = 1 << 20
	// maxPlace is where a file ends that 32-bit sector numbers can tell of, bytes.
	maxPlace = sector << 32

	cellPage  = 32768 // cells of one page
	cellPages = 2048  // 64 MiB of pages at most: enough for a full file of 64 KiB grains
)

// claims is what lies where in a file that is to be written. For reading, seen is
// enough, which may miss grains that overlap in part; here nothing may be missed,
// since a write to one of two things in one place destroys the other.
type claims struct {
	areas []area // headers, directories, tables; sorted and joined by settle
	cells cells
	name  string
	end   int64 // of all that is claimed
	why   error // the first thing that is wrong
}

// claimTables claims what the header, the directories and both sets of tables say.
func (g *grains) claimTables() (*claims, error) {
	h := g.head.(*hostedHeader)
	c := &claims{name: g.name, cells: newCells(g.grain, g.length), end: int64(min(h.Overhead, uint64(g.length)/sector)) * sector}
	c.add(0, hostedHeaderSize)
	pos, n, err := h.descriptorArea(g.length)
	if err != nil {
		return nil, err
	}
	c.add(pos, n)
	for _, dir := range []int64{g.dir, g.spare} {
		if dir == 0 {
			continue
		}
		c.add(dir, int64(h.entries())*g.width)
		if err := g.eachEntry(dir, g.tableCount()*g.width, func(t int64, entry uint64) error { return g.claimTable(c, t, entry) }); err != nil {
			return nil, err
		}
	}
	return c, c.settle()
}

// claimTable claims what is used of one table; the next grain may follow there.
func (g *grains) claimTable(c *claims, t int64, entry uint64) error {
	pos, n := int64(entry)*sector, g.tableSize(t)
	switch {
	case g.state[t] == tableSpare:
		return unsound("a grain table is only there in its redundant copy")
	case g.state[t] == tableLost:
		return vdcore.Unsound(g.flaws().badTable)
	case !g.inside(pos, n):
		return unsound("a redundant grain table lies outside the file")
	case len(c.areas) == maxClaims:
		return refuse("its grain tables are scattered too widely to be kept apart")
	}
	c.add(pos, n)
	c.end = max(c.end, pos+g.perTable*g.width)
	return nil
}

func (c *claims) add(pos, n int64) {
	if n == 0 {
		return
	}
	c.end = max(c.end, pos+n)
	if k := len(c.areas); k > 0 && c.areas[k-1].to == pos {
		c.areas[k-1].to += n
		return
	}
	c.areas = append(c.areas, area{pos, pos + n})
}

// settle sorts the areas, and refuses those that overlap.
func (c *claims) settle() error {
	slices.SortFunc(c.areas, func(a, b area) int { return cmp.Compare(a.from, b.from) })
	for k := 1; k < len(c.areas); k++ {
		if c.areas[k].from < c.areas[k-1].to {
			return refuse(fmt.Sprintf("two of its tables, or a table and the header, share bytes at %d", c.areas[k].from))
		}
	}
	return nil
}

// grains claims a run of grains that begins at a guest offset of the extent, of
// which the disk has want bytes. A grain takes its whole place, also at the end of
// the disk.
func (c *claims) grains(off, pos, want int64) {
	n := (want + c.cells.grain - 1) / c.cells.grain * c.cells.grain
	c.end = max(c.end, pos+n)
	if c.why != nil {
		return
	}
	k := sort.Search(len(c.areas), func(k int) bool { return c.areas[k].to > pos })
	if k < len(c.areas) && c.areas[k].from < pos+n {
		c.why = unsound(fmt.Sprintf("%s: a grain lies over a table at %d", c.name, c.areas[k].from))
		return
	}
	for end := pos + n; pos < end; pos, off = pos+c.cells.grain, off+c.cells.grain {
		if clash, room := c.cells.note(pos); clash {
			c.why = unsound(fmt.Sprintf("%s: two grain table entries share a grain (one of them is that of guest byte %d of the extent), and writing to one would change the other", c.name, off))
			return
		} else if !room {
			c.why = refuse(c.name + ": it has more grains than can be kept apart")
			return
		}
	}
}

// maxGapSteps bounds the search for gaps: half a second. A larger file grows at its
// end.
const maxGapSteps = 1 << 25

// gaps lists the room for whole grains between what is claimed, from a position on,
// joined, the highest first.
func (c *claims) gaps(from int64) (list []area) {
	grain := c.cells.grain
	align := min(grain, maxAlign)
	from = (from + align - 1) / align * align
	if (c.end-from)/align > maxGapSteps {
		return nil
	}
	k := len(c.areas) - 1
	for pos := c.end / align * align; pos >= from; pos -= align {
		for k >= 0 && c.areas[k].from >= pos+grain {
			k--
		}
		room := pos+grain <= c.end && (len(list) == 0 || pos+grain <= list[len(list)-1].from)
		if !room || k >= 0 && c.areas[k].to > pos || c.cells.taken(pos) {
			continue
		}
		if n := len(list); n > 0 && list[n-1].from == pos+grain {
			list[n-1].from = pos
		} else if n < maxClaims {
			list = append(list, area{pos, pos + grain})
		}
	}
	return list
}

// cells remembers where grains begin, to the sector. The file is cut into cells of
// a grain, or 64 KiB if that is less: two grains of one cell would overlap, so each
// has one byte, 0 for none or the sector in the cell, counted from 1.
type cells struct {
	grain, size int64
	pages       []*[cellPage]byte
	left        int
}

func newCells(grain, length int64) cells {
	size := min(grain, 64<<10)
	return cells{grain, size, make([]*[cellPage]byte, min(length, maxPlace)/size/cellPage+1), cellPages}
}

// note notes a grain that begins at pos, and reports whether it overlaps one noted
// before; room is false when it could not be noted.
func (c *cells) note(pos int64) (clash, room bool) {
	if c.taken(pos) {
		return true, true
	}
	cell := pos / c.size
	page := &c.pages[cell/cellPage] // a grain begins inside the file, so there is one
	if *page == nil {
		if c.left == 0 {
			return false, false
		}
		c.left--
		*page = new([cellPage]byte)
	}
	(*page)[cell%cellPage] = byte(pos%c.size/sector) + 1
	return false, true
}

// taken reports whether a grain at pos would overlap one that was noted.
func (c *cells) taken(pos int64) bool {
	for k := max(pos-c.grain+sector, 0) / c.size; k <= (pos+c.grain-sector)/c.size; k++ {
		start, ok := c.start(k)
		if ok && start > pos-c.grain && start < pos+c.grain {
			return true
		}
	}
	return false
}

// start returns where the grain begins that was noted in a cell.
func (c *cells) start(cell int64) (pos int64, ok bool) {
	k := cell / cellPage
	if k >= int64(len(c.pages)) || c.pages[k] == nil {
		return 0, false
	}
	v := c.pages[k][cell%cellPage]
	return cell*c.size + int64(v-1)*sector, v != 0
}
