package imgops

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"vdfs/vdcore"
)

// Share is how much of a part of the disk is of which kind, in bytes.
type Share struct {
	Data, Packed, Zero, Lost int64
	Looked                   int64 // of this much it is known; the rest of it is free
}

// Survey is what the layers of a chain hold themselves, in so many equal parts of the
// disk: enough to draw it.
type Survey struct {
	Capacity int64     // of the largest layer, which the parts cut up
	Part     int64     // bytes; the last ones may be shorter, or behind the end
	Layers   [][]Share // base first
	Whole    bool      // all was looked at

	limited bool
}

const (
	// surveyBlocks is how many blocks are mapped at a time with a limit: little enough to
	// look at one place in each part of hundreds of layers without anybody waiting.
	surveyBlocks = 256
	surveyFlat   = 256 << 20 // bytes, where there are no blocks
	surveyMost   = 64 << 10  // blocks at a time without a limit, for the memory they take
)

// TakeSurvey reads the maps of all layers, and no data. With a limit it looks at some of
// each part first, and at more and more of it as long as the limit lasts: a sample, of a
// disk whose tables take longer to read. What a layer knows to be lost is never left
// out. Memory depends on the number of layers and parts alone.
func TakeSurvey(ctx context.Context, c *vdcore.Chain, parts int, limit time.Duration) (*Survey, error) {
	s := &Survey{Whole: true, limited: limit > 0}
	for _, l := range c.Layers() {
		s.Capacity = max(s.Capacity, l.Info().Capacity)
		s.Layers = append(s.Layers, make([]Share, parts))
	}
	s.Part = (s.Capacity-1)/int64(parts) + 1
	deadline := time.Now().Add(limit)
	for round, left := 0, true; left; round++ {
		left = false
		for i, l := range c.Layers() {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if round > 0 && s.limited && time.Now().After(deadline) {
				s.Whole = false
				s.addDamage(c)
				return s, nil
			}
			more, err := s.look(l, s.Layers[i], round)
			if err != nil {
				return nil, err
			}
			left = left || more
		}
	}
	return s, nil
}

// look maps the next window of each part of a layer, and reports whether there are more.
func (s *Survey) look(l *vdcore.Layer, shares []Share, round int) (more bool, err error) {
	window := s.windowOf(l.Info())
	windows := (s.Part-1)/window + 1
	more = int64(round) < roundUp(windows)-1
	n := int64(round)
	if s.limited {
		n = scattered(n, windows)
	}
	if n >= windows {
		return more, nil
	}
	var extents []vdcore.Extent
	for i := range shares {
		from := int64(i)*s.Part + n*window
		to := min(from+window, int64(i+1)*s.Part, s.Capacity)
		if from >= to {
			continue
		}
		if extents, err = s.window(l, &shares[i], extents[:0], from, to); err != nil {
			return false, err
		}
	}
	return more, nil
}

// windowOf is how much of a layer is mapped at a time, bytes.
func (s *Survey) windowOf(i *vdcore.Info) int64 {
	switch {
	case i.BlockSize == 0:
		return min(s.Part, surveyFlat)
	case s.limited:
		return min(s.Part, max(i.BlockSize*surveyBlocks, 1<<20))
	}
	return min(s.Part, i.BlockSize*surveyMost)
}

// window adds what a layer holds of [from, to) to a share. What lies behind the end of a
// layer that has a parent hides that.
func (s *Survey) window(l *vdcore.Layer, share *Share, extents []vdcore.Extent, from, to int64) ([]vdcore.Extent, error) {
	share.Looked += to - from
	end := min(to, l.Info().Capacity)
	if l.Index > 0 {
		share.Zero += to - max(end, from)
	}
	if from >= end {
		return extents, nil
	}
	extents, err := l.Image.Map(extents, from, end-from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.Path, err)
	}
	for _, e := range extents {
		share.add(e.Kind, e.Len)
	}
	return extents, nil
}

func (s *Share) add(kind vdcore.Kind, n int64) {
	switch kind {
	case vdcore.Data:
		s.Data += n
	case vdcore.Packed:
		s.Packed += n
	case vdcore.Zero:
		s.Zero += n
	case vdcore.Lost:
		s.Lost += n
	}
}

// addDamage enters what is known to be lost into parts where it was not come upon.
func (s *Survey) addDamage(c *vdcore.Chain) {
	for i, l := range c.Layers() {
		for _, d := range l.Info().Damage {
			for off := d.Off; off < d.Off+d.Len; off = (off/s.Part + 1) * s.Part {
				if share := &s.Layers[i][off/s.Part]; share.Lost == 0 {
					share.Lost = min(d.Off+d.Len, (off/s.Part+1)*s.Part) - off
				}
			}
		}
	}
}

// scattered is the place of the n-th of so many windows in an order that spreads over
// all of them from the beginning: the bits of n reversed. It may be count or more.
func scattered(n, count int64) int64 {
	width := bits.Len64(uint64(count - 1))
	if width == 0 {
		return n
	}
	return int64(bits.Reverse64(uint64(n)) >> (64 - width))
}

// roundUp is the next power of two.
func roundUp(n int64) int64 { return 1 << bits.Len64(uint64(n-1)) }

// Seen is what shows of each layer in the disk of the topmost one, in the parts of a
// survey; the last of the list is what no layer answers for.
func (s *Survey) Seen(ctx context.Context, c *vdcore.Chain) ([][]Share, error) {
	seen := make([][]Share, len(s.Layers)+1)
	for i := range seen {
		seen[i] = make([]Share, len(s.Layers[0]))
	}
	d := c.Top()
	for part := range seen[0] {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		from := int64(part) * s.Part
		err := d.Each(from, max(0, min(s.Part, d.Capacity()-from)), func(f vdcore.Flat) bool {
			layer := f.Layer
			if layer < 0 {
				layer = len(s.Layers)
			}
			seen[layer][part].add(f.Kind, f.Len)
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return seen, nil
}
