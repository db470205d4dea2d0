package vdcore

import (
	"math/bits"
	"sort"
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

// runBudget counts the runs of all leaves of a chain.
type runBudget struct{ used atomic.Int64 }

// flatMap is the lazily filled map of one disk.
type flatMap struct {
	capacity int64
	shift    uint // log2 of the span of a leaf
	top      []atomic.Pointer[leaf]
	hand     atomic.Int64 // where eviction looks next
	budget   *runBudget
	fill     func(off, n int64) ([]run, error)
}

func newFlatMap(capacity, block int64, budget *runBudget, fill func(off, n int64) ([]run, error)) *flatMap {
	span := max(block*leafEntries, minSpan, (capacity+maxLeaves-1)/maxLeaves)
	shift := uint(bits.Len64(uint64(span - 1)))
	m := &flatMap{capacity: capacity, shift: shift, budget: budget, fill: fill}
	m.top = make([]atomic.Pointer[leaf], (capacity+1<<shift-1)>>shift)
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
		if m.budget.used.Add(int64(len(runs))) > maxRuns {
			m.evict(i)
		}
	}
	return l, end, nil
}

// evict drops leaves, in turn, until this chain is within its budget again or
// this map has nothing left but the leaf it just made.
func (m *flatMap) evict(keep int64) {
	for range m.top {
		i := m.hand.Add(1) % int64(len(m.top))
		if i == keep {
			continue
		}
		if old := m.top[i].Swap(nil); old != nil {
			if m.budget.used.Add(-int64(len(old.runs))) <= maxRuns {
				return
			}
		}
	}
}

// find returns the index of the run that holds off.
func (l *leaf) find(off int64) int {
	return sort.Search(len(l.runs), func(i int) bool { return l.runs[i].start > off }) - 1
}

// runSize keeps the bound above honest.
const _ = uint(32 - unsafe.Sizeof(run{}))
