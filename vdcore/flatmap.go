package vdcore

import (
	"math/bits"
	"sort"
	"sync"
	"sync/atomic"
	"unsafe"
)

// The flat map of a disk answers "where does this byte lie" at a cost that does
// not depend on the number of layers. Its top level is a slice of atomic
// pointers, one per span of the disk; a leaf is the sorted, joined list of runs
// of that span. Leaves are made at first use by walking the layers once, are
// immutable, and may be dropped at any time: a reader keeps the one it holds.

// run is one extent of the flat map. It ends where the next one begins.
type run struct {
	start int64 // guest offset
	pos   int64 // place in the file
	file  int32 // index into fileTable, for Data and Packed
	layer int32 // that answers; -1 below the base
	skip  uint32
	kind  Kind
}

type leaf struct{ runs []run }

const (
	leafEntries = 1024    // a leaf spans about so many blocks of the finest layer
	minSpan     = 1 << 20 // bytes
	maxLeaves   = 1 << 18 // 2 MiB of pointers
	// maxRuns bounds the memory all leaves of a chain take: 32 bytes each.
	maxRuns = 1 << 20
)

// runBudget counts the runs of all leaves of a chain, whichever disk they are of.
type runBudget struct {
	used atomic.Int64

	mu   sync.Mutex // guards what follows
	maps []*flatMap
	hand int // map that eviction looks at next
}

func (b *runBudget) join(m *flatMap) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.maps = append(b.maps, m)
}

// shrink drops leaves, map after map, until the chain is within its budget again.
// keep was made a moment ago and stays.
func (b *runBudget) shrink(keep *leaf) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.maps {
		if b.used.Load() <= maxRuns {
			return
		}
		if !b.maps[b.hand].evict(keep) {
			b.hand = (b.hand + 1) % len(b.maps)
		}
	}
}

// flatMap is the lazily filled map of one disk.
type flatMap struct {
	capacity int64
	shift    uint // log2 of the span of a leaf
	top      []atomic.Pointer[leaf]
	live     atomic.Int64 // leaves there are
	hand     int          // where eviction looks next; under budget.mu
	budget   *runBudget
	fill     func(off, n int64) ([]run, error)
}

func newFlatMap(capacity, block int64, budget *runBudget, fill func(off, n int64) ([]run, error)) *flatMap {
	span := max(block*leafEntries, minSpan, capacity/maxLeaves+1)
	shift := uint(bits.Len64(uint64(span - 1)))
	m := &flatMap{capacity: capacity, shift: shift, budget: budget, fill: fill}
	m.top = make([]atomic.Pointer[leaf], (capacity-1)>>shift+1)
	budget.join(m)
	return m
}

// at returns the leaf that holds off, and the guest offset where it ends.
func (m *flatMap) at(off int64) (*leaf, int64, error) {
	i := off >> m.shift
	start := i << m.shift
	end := min(start+1<<m.shift, m.capacity)
	if l := m.top[i].Load(); l != nil {
		return l, end, nil
	}
	runs, err := m.fill(start, end-start)
	if err != nil {
		return nil, 0, err
	}
	l := &leaf{runs}
	if m.top[i].CompareAndSwap(nil, l) {
		m.live.Add(1)
		if m.budget.used.Add(int64(len(runs))) > maxRuns {
			m.budget.shrink(l)
		}
	}
	return l, end, nil
}

// evict drops leaves other than keep until the budget is met, which it reports, or
// none is left.
func (m *flatMap) evict(keep *leaf) bool {
	for range m.top {
		if m.live.Load() == 0 {
			return false
		}
		m.hand = (m.hand + 1) % len(m.top)
		old := m.top[m.hand].Load()
		if old == nil || old == keep || !m.top[m.hand].CompareAndSwap(old, nil) {
			continue
		}
		m.live.Add(-1)
		if m.budget.used.Add(-int64(len(old.runs))) <= maxRuns {
			return true
		}
	}
	return false
}

// find returns the index of the run that holds off.
func (l *leaf) find(off int64) int {
	return sort.Search(len(l.runs), func(i int) bool { return l.runs[i].start > off }) - 1
}

// runSize keeps the bound above honest.
const _ = uint(32 - unsafe.Sizeof(run{}))
