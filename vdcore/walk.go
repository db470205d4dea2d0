package vdcore

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// walker resolves a range through the layers, top down. Each layer is asked once, for
// all that those above it left open, and not for every hole of theirs: in a chain of
// many layers these are many, and few of their answers differ.
type walker struct {
	chain *Chain
	open  []stretch // what no layer has answered so far, in order
	found []answer

	extents []Extent  // memory for what a layer answers
	spare   []stretch // and for the next open
}

// walkers are used again, for their memory: the map of a disk takes one for each of its
// leaves, and compressed grains make long lists.
var walkers = sync.Pool{New: func() any { return new(walker) }}

// stretch is a guest range [off, end).
type stretch struct{ off, end int64 }

// answer is an extent and the layer it comes from; -1 is none.
type answer struct {
	Extent
	layer int
}

// resolve returns the runs of the guest range [off, off+n) as layer sees it; -1 is what
// lies below the base.
func (c *Chain) resolve(layer int, off, n int64) ([]run, error) {
	w := walkers.Get().(*walker)
	defer walkers.Put(w)
	w.chain, w.open, w.found = c, append(w.open[:0], stretch{off, off + n}), w.found[:0]
	defer func() { w.chain = nil }()
	for ; layer >= 0 && len(w.open) > 0; layer-- {
		l := c.layers[layer]
		w.close(l.Info().Capacity)
		if len(w.open) == 0 {
			break
		}
		first, end := w.open[0].off, w.open[len(w.open)-1].end
		extents, err := l.Image.Map(w.extents[:0], first, end-first)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Path, err)
		}
		w.extents = extents
		if !covers(extents, first, end) {
			return nil, fmt.Errorf("%s: its map does not answer for guest bytes %d to %d: %w", l.Path, first, end, ErrCorrupt)
		}
		w.take(layer, extents)
	}
	w.rest()
	return w.runs(), nil
}

// covers holds a format to its promise: a gap must not be taken for anything.
func covers(extents []Extent, off, end int64) bool {
	for _, e := range extents {
		if e.Off != off || e.Len <= 0 {
			return false
		}
		off = e.End()
	}
	return off == end
}

// close answers what lies past the end of the layer that is asked next: zeros.
func (w *walker) close(capacity int64) {
	for len(w.open) > 0 {
		last := &w.open[len(w.open)-1]
		if last.end <= capacity {
			return
		}
		from := max(last.off, capacity)
		w.found = append(w.found, answer{Extent{Off: from, Len: last.end - from, Kind: Zero}, -1})
		if last.end = from; last.off == from {
			w.open = w.open[:len(w.open)-1]
		}
	}
}

// take keeps what extents say of the open stretches. This is the one place where
// Free means "ask the parent".
func (w *walker) take(layer int, extents []Extent) {
	open, i := w.spare[:0], 0
	for _, s := range w.open {
		for extents[i].End() <= s.off {
			i++
		}
		for at := s.off; at < s.end; {
			e := extents[i].Clip(at, min(extents[i].End(), s.end))
			at = e.End()
			switch last := len(open) - 1; {
			case e.Kind != Free:
				w.found = append(w.found, answer{e, layer})
			case last >= 0 && open[last].end == e.Off:
				open[last].end = at
			default:
				open = append(open, stretch{e.Off, at})
			}
			if at == extents[i].End() && at < s.end {
				i++
			}
		}
	}
	w.open, w.spare = open, w.open
}

// rest answers what not even the base holds.
func (w *walker) rest() {
	kind := Zero
	if w.chain.layers[0].Link.Verdict == LinkMissing {
		kind = Lost
	}
	for _, s := range w.open {
		w.found = append(w.found, answer{Extent{Off: s.off, Len: s.end - s.off, Kind: kind}, -1})
	}
}

// runs puts the answers in order and joins those that continue each other.
func (w *walker) runs() []run {
	slices.SortFunc(w.found, func(a, b answer) int { return cmp.Compare(a.Off, b.Off) })
	runs := make([]run, 0, len(w.found))
	var last answer
	for _, a := range w.found {
		if len(runs) > 0 && a.layer == last.layer && a.follows(last.Extent) {
			last.Len += a.Len
			continue
		}
		last = a
		file := -1
		if a.Kind == Data || a.Kind == Packed {
			file = w.chain.files.first[a.layer] + a.File
		}
		runs = append(runs, run{start: a.Off, pos: a.Pos, file: int32(file), layer: int32(a.layer), skip: uint32(a.Skip), kind: a.Kind})
	}
	return runs
}
