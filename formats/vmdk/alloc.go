package vmdk

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"syscall"
)

const (
	// maxAlign is what places are aligned to when grains are larger than that: more
	// would be waste.
	maxAlign = 64 << 10
	// tablePool is how much is taken for new tables at a time, bytes, so that those
	// of a growing disk do not each push the grains behind them out of alignment.
	tablePool = 64 << 10
)

// allocator hands out places of one file: those between what is in use and those
// given back, the lowest first, else the next one at the end.
type allocator struct {
	grain int64
	end   int64  // where the next place begins; nothing beyond is in use
	free  []area // not in use; joined, the highest first
	pool  area   // for tables, not used yet
	// fresh are tables that are on disk, or on their way there, and in no directory
	// yet.
	fresh map[int64]newTable
}

// newTable is where a table and its redundant copy lie; spare is 0 without one.
type newTable struct{ main, spare int64 }

func newAllocator(grain int64) *allocator {
	return &allocator{grain: grain, fresh: map[int64]newTable{}}
}

// fillGaps has the allocator use what the claims leave. Behind their end, and in
// the gaps between, there is only what was given up or a crash has left.
func (g *grains) fillGaps(c *claims) error {
	g.alloc.end = c.end
	if c.why == nil {
		g.alloc.free = c.gaps(g.head.(*hostedHeader).overhead(c.end))
	}
	return c.why
}

// reserve finds a place for a grain. Something else may have been there.
func (a *allocator) reserve() (int64, error) {
	k := len(a.free) - 1
	if k < 0 {
		return a.extend(a.grain)
	}
	pos := a.free[k].from
	if a.free[k].from += a.grain; a.free[k].from == a.free[k].to {
		a.free = a.free[:k]
	}
	return pos, nil
}

// extend takes n bytes at the end, if a sector number can tell of them.
func (a *allocator) extend(n int64) (int64, error) {
	align := min(a.grain, maxAlign)
	pos := (a.end + align - 1) / align * align
	if pos/sector > math.MaxUint32 {
		return 0, fmt.Errorf("the file has reached 2 TiB, and grain tables can tell of no place beyond: %w", syscall.ENOSPC)
	}
	a.end = pos + n
	return pos, nil
}

// release takes a place back. At the end it is as if it had never been handed out,
// or an end the file could not grow to would stay in everybody's way.
func (a *allocator) release(pos int64) {
	defer a.trim()
	k, _ := slices.BinarySearchFunc(a.free, pos, func(f area, pos int64) int { return cmp.Compare(pos, f.from) })
	above := k > 0 && a.free[k-1].from == pos+a.grain
	below := k < len(a.free) && a.free[k].to == pos
	switch {
	case above && below:
		a.free[k].to = a.free[k-1].to
		a.free = slices.Delete(a.free, k-1, k)
	case above:
		a.free[k-1].from = pos
	case below:
		a.free[k].to = pos + a.grain
	default:
		a.free = slices.Insert(a.free, k, area{pos, pos + a.grain})
	}
}

// room is how many bytes there are in the gaps.
func (a *allocator) room() (n int64) {
	for _, f := range a.free {
		n += f.to - f.from
	}
	return n
}

// lowest lists the places that are handed out next, at most n and none at the end.
func (a *allocator) lowest(n int) (list []int64) {
	for k := len(a.free) - 1; k >= 0; k-- {
		for pos := a.free[k].from; pos < a.free[k].to; pos += a.grain {
			if len(list) == n {
				return list
			}
			list = append(list, pos)
		}
	}
	return list
}

// trim moves the end before everything that is not in use there.
func (a *allocator) trim() {
	for {
		switch {
		case len(a.free) > 0 && a.free[0].to == a.end:
			a.end = a.free[0].from
			a.free = slices.Delete(a.free, 0, 1)
		case a.pool.to == a.end && a.pool.from < a.pool.to:
			a.end, a.pool = a.pool.from, area{}
		default:
			return
		}
	}
}

// newTable makes a table of zeros, and a redundant one if the file has such, that
// no directory leads to yet. It is the same one until it is published.
func (g *grains) newTable(t int64) error {
	if _, again := g.alloc.fresh[t]; again {
		return nil
	}
	var made newTable
	var err error
	if made.main, err = g.writeTable(make([]byte, g.perTable*g.width)); err != nil {
		return err
	}
	if g.spare != 0 {
		if made.spare, err = g.writeTable(make([]byte, g.perTable*g.width)); err != nil {
			return err
		}
	}
	g.alloc.fresh[t] = made
	return nil
}

// writeTable writes a table to a new place.
func (g *grains) writeTable(table []byte) (int64, error) {
	a, n := g.alloc, int64(len(table))
	if a.pool.to-a.pool.from < n {
		pos, err := a.extend(tablePool)
		if err != nil {
			return 0, err
		}
		a.pool = area{pos, pos + tablePool}
	}
	pos := a.pool.from
	if err := g.tables.WriteAt(g.file, table, pos); err != nil {
		return 0, err
	}
	a.pool.from += n
	return pos, nil
}

// grow makes the file reach to the end of all places, not only of those that are
// about to be published: data may be on their way into others, and a shorter
// length could cut them off.
func (g *grains) grow() error {
	if g.length >= g.alloc.end {
		return nil
	}
	st, err := g.file.Stat()
	if err == nil && st.Size < g.alloc.end {
		err = g.file.Truncate(g.alloc.end)
	}
	if err == nil {
		g.length = g.alloc.end
	}
	return err
}
