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
// immutable, and may be dropped at any time: a reader keeps the one it holds. A
// write replaces the leaf by a changed copy.

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
	leafEntries = 1024 // a leaf spans about so many blocks of the finest layer
	// maxWriteLeaves is for the disk that is written, whose leaves span as little as
	// possible: each write copies one. 8 MiB of pointers.
	maxWriteLeaves = 1 << 20
	minSpan        = 1 << 20 // bytes
	maxLeaves      = 1 << 18 // 2 MiB of pointers
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
	// mu is the writer's, of a disk that is written: held while a leaf is made or
	// replaced, so that none is made of what has changed meanwhile.
	mu *sync.Mutex
}

func newFlatMap(capacity, block int64, budget *runBudget, fill func(off, n int64) ([]run, error)) *flatMap {
	return makeFlatMap(capacity, max(block*leafEntries, minSpan, capacity/maxLeaves+1), budget, fill)
}

// newWriteMap makes the map of a disk that is written under mu.
func newWriteMap(capacity, block int64, budget *runBudget, mu *sync.Mutex, fill func(off, n int64) ([]run, error)) *flatMap {
	m := makeFlatMap(capacity, max(block, minSpan, capacity/maxWriteLeaves+1), budget, fill)
	m.mu = mu
	return m
}

func makeFlatMap(capacity, span int64, budget *runBudget, fill func(off, n int64) ([]run, error)) *flatMap {
	shift := uint(bits.Len64(uint64(span - 1)))
	m := &flatMap{capacity: capacity, shift: shift, budget: budget, fill: fill}
	m.top = make([]atomic.Pointer[leaf], (capacity-1)>>shift+1)
	budget.join(m)
	return m
}

// bounds are the guest range of leaf i.
func (m *flatMap) bounds(i int64) (start, end int64) {
	start = i << m.shift
	return start, min(start+1<<m.shift, m.capacity)
}

// at returns the leaf that holds off, and the guest offset where it ends.
func (m *flatMap) at(off int64) (*leaf, int64, error) {
	if l, end := m.peek(off); l != nil {
		return l, end, nil
	}
	if m.mu != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if l, end := m.peek(off); l != nil {
			return l, end, nil
		}
	}
	i := off >> m.shift
	start, end := m.bounds(i)
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

// peek is at for a leaf that is there; nil when it is not.
func (m *flatMap) peek(off int64) (*leaf, int64) {
	i := off >> m.shift
	_, end := m.bounds(i)
	return m.top[i].Load(), end
}

// patch enters that the disk is r up to end now, in the leaves there are; others
// are made of the new state. Under mu.
func (m *flatMap) patch(r run, end int64) {
	for r.start < end {
		i := r.start >> m.shift
		_, stop := m.bounds(i)
		to := min(stop, end)
		if old := m.top[i].Load(); old != nil {
			l := &leaf{splice(old.runs, r, to, stop)}
			if m.top[i].CompareAndSwap(old, l) { // it was not dropped meanwhile
				m.budget.used.Add(int64(len(l.runs) - len(old.runs)))
			}
		}
		r = r.from(to)
	}
}

// splice returns a copy of runs, which cover up to limit, in which r covers up to
// end.
func splice(runs []run, r run, end, limit int64) []run {
	first := sort.Search(len(runs), func(i int) bool { return runs[i].start >= r.start })
	out := make([]run, first, len(runs)+2)
	copy(out, runs)
	if first == 0 || !r.continues(out[first-1]) {
		out = append(out, r)
	}
	if end == limit {
		return out
	}
	last := sort.Search(len(runs), func(i int) bool { return runs[i].start > end }) - 1
	tail := runs[last].from(end)
	if !tail.continues(out[len(out)-1]) {
		out = append(out, tail)
	}
	return append(out, runs[last+1:]...)
}

// from is the part of r that begins at a guest offset inside it.
func (r run) from(off int64) run {
	switch r.kind {
	case Data:
		r.pos += off - r.start
	case Packed:
		r.skip += uint32(off - r.start)
	}
	r.start = off
	return r
}

// continues reports whether r goes on where a, which ends at its start, leaves off.
func (r run) continues(a run) bool {
	if r.kind != a.kind || r.layer != a.layer {
		return false
	}
	switch r.kind {
	case Data:
		return r.file == a.file && r.pos == a.pos+r.start-a.start
	case Packed:
		return r.file == a.file && r.pos == a.pos && int64(r.skip) == int64(a.skip)+r.start-a.start
	}
	return true
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
