package vmdk

import (
	"math/bits"
	"sync"
)

const (
	seenPage   = 8192  // bits of one page: enough for most snapshots
	seenPages  = 32768 // 32 MiB of pages at most
	maxSeenTop = 1 << 20
)

// seen remembers which units of a file are taken, as a bitmap that only exists
// where something was noted. Two ranges of one unit's length that begin in the
// same unit overlap, wherever they are aligned.
type seen struct {
	unit  int64
	pages []*[seenPage / 64]uint64
	used  int
}

func newSeen(unit, length int64) *seen {
	top := min(length/unit/seenPage+1, maxSeenTop)
	return &seen{unit: unit, pages: make([]*[seenPage / 64]uint64, top)}
}

// note reports whether the unit at pos was noted before; noted is false when
// there is no room to remember it.
func (s *seen) note(pos int64) (again, noted bool) {
	bit := pos / s.unit
	page := s.page(bit / seenPage)
	if page == nil {
		return false, false
	}
	word, mask := &page[bit%seenPage/64], uint64(1)<<(bit%64)
	again = *word&mask != 0
	*word |= mask
	return again, true
}

// noteRun notes n units that follow each other, counts those noted before, and
// forgets those there is no room for.
func (s *seen) noteRun(pos, n int64) (again int64) {
	for bit := pos / s.unit; n > 0; {
		k := min(n, 64-bit%64) // bits of this word
		if page := s.page(bit / seenPage); page != nil {
			word, mask := &page[bit%seenPage/64], ^uint64(0)>>(64-k)<<(bit%64)
			again += int64(bits.OnesCount64(*word & mask))
			*word |= mask
		}
		bit, n = bit+k, n-k
	}
	return again
}

// page returns a page of the bitmap, nil when there may be none.
func (s *seen) page(n int64) *[seenPage / 64]uint64 {
	if n >= int64(len(s.pages)) {
		return nil
	}
	if s.pages[n] == nil && s.used < seenPages {
		s.used++
		s.pages[n] = seenMemory.Get().(*[seenPage / 64]uint64)
	}
	return s.pages[n]
}

// seenMemory are pages that were used before, all zeros: a long chain needs a few for
// each layer, and fresh memory costs more than clearing.
var seenMemory = sync.Pool{New: func() any { return new([seenPage / 64]uint64) }}

// free gives the pages back. Nothing is noted any more.
func (s *seen) free() {
	for _, page := range s.pages {
		if page != nil {
			clear(page[:])
			seenMemory.Put(page)
		}
	}
	s.pages = nil
}
