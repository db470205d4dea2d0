package vdi

import "math/bits"

// slots knows which slots of the file are taken: an entry leads there, or the
// chain is about to make one. It takes one bit for each slot of the file.
type slots struct {
	taken bitmap
	end   int64 // first slot behind all that are taken; the file grows there
	low   int64 // no slot below is free
	limit int64 // slot numbers stay below
}

// pick finds the lowest free slot, or the one to append; false when there is none.
// It changes nothing that matters: the slot is free until it is taken.
func (s *slots) pick() (int64, bool) {
	s.low = s.taken.nextClear(s.low, s.end)
	return s.low, s.low < s.limit
}

func (s *slots) take(n int64) {
	s.taken.grow(n + 1)
	s.taken.set(n)
	s.end = max(s.end, n+1)
}

// give takes a slot back. At the end it is as if it had never been taken, or an end
// the file could not grow to would stay in everybody's way.
func (s *slots) give(n int64) {
	s.taken.clear(n)
	s.low = min(s.low, n)
	for s.end > 0 && !s.taken.has(s.end-1) {
		s.end--
	}
}

// bitmap is one bit for each slot of the file: its size follows from the file.
type bitmap struct {
	n    int64
	bits []uint64
}

func newBitmap(n int64) bitmap { return bitmap{n, make([]uint64, (n+63)/64)} }

// set reports whether the bit was set before.
func (b bitmap) set(i int64) bool {
	w, m := &b.bits[i/64], uint64(1)<<(i%64)
	was := *w&m != 0
	*w |= m
	return was
}

func (b bitmap) clear(i int64) { b.bits[i/64] &^= 1 << (i % 64) }

func (b bitmap) has(i int64) bool { return i < b.n && b.bits[i/64]>>(i%64)&1 != 0 }

// grow makes room for n bits.
func (b *bitmap) grow(n int64) {
	if n <= b.n {
		return
	}
	b.n = n
	for int64(len(b.bits)) < (n+63)/64 {
		b.bits = append(b.bits, 0)
	}
}

// nextClear is the first bit from i on that is not set, end at the latest. Bits
// there is no room for are not set.
func (b bitmap) nextClear(i, end int64) int64 {
	for i < min(end, b.n) {
		if w := ^b.bits[i/64] >> (i % 64); w != 0 {
			return min(i+int64(bits.TrailingZeros64(w)), end)
		}
		i = (i/64 + 1) * 64
	}
	return min(i, end)
}

// count is how many bits are set.
func (b bitmap) count() int64 { return b.countBelow(b.n) }

// countBelow is how many of the bits below end are set.
func (b bitmap) countBelow(end int64) (n int64) {
	for i, w := range b.bits {
		if left := end - int64(i)*64; left < 64 {
			w &= 1<<max(left, 0) - 1
		}
		n += int64(bits.OnesCount64(w))
	}
	return n
}

// last is the first bit behind all that are set.
func (b bitmap) last() int64 {
	for i := len(b.bits) - 1; i >= 0; i-- {
		if w := b.bits[i]; w != 0 {
			return int64(i)*64 + int64(bits.Len64(w))
		}
	}
	return 0
}
