package imgops

import (
	"context"
	"fmt"

	"vdfs/vdcore"
)

// Diff lists what the layers of a chain above from, up to to, hold: ranges outside of
// them show the same in both states. Where the disk of to is longer or shorter than that
// of from, the ranges end with the disk of to. With content, ranges are left out that
// read alike in both states, which is found out by reading them.
func Diff(ctx context.Context, c *vdcore.Chain, from, to int, content bool, progress Progress) ([]Range, error) {
	if from < 0 || from >= to || to >= len(c.Layers()) {
		return nil, fmt.Errorf("layers %d and %d of %d: %w; the base is 0, and the lower one comes first", from, to, len(c.Layers()), vdcore.ErrUnsupported)
	}
	held, err := heldBetween(c, from, to)
	if err != nil || !content {
		return held, err
	}
	x, err := Compare(ctx, c.Disk(from), c.Disk(to), true, progress)
	return intersect(held, x.Ranges), err
}

// heldBetween merges what the layers above from hold. They hide each other, and what
// one of them makes free again is none of theirs: there is no such thing in a layer. One
// that is shorter than what lies below holds zeros behind its end.
func heldBetween(c *vdcore.Chain, from, to int) ([]Range, error) {
	capacity := c.Layers()[to].Info().Capacity
	var held []Range
	below := c.Layers()[from].Info().Capacity
	for _, l := range c.Layers()[from+1 : to+1] {
		var own []Range
		if err := eachOwn(l, func(e vdcore.Extent) bool {
			if e.Off < capacity {
				own = joinRange(own, Range{e.Off, min(e.End(), capacity) - e.Off})
			}
			return len(own) <= maxRanges
		}); err != nil {
			return nil, err
		}
		size := l.Info().Capacity
		if hidden := min(below, capacity) - size; hidden > 0 {
			own = joinRange(own, Range{size, hidden})
		}
		below = size
		if held = union(held, own); len(held) > maxRanges {
			return nil, fmt.Errorf("more than %d ranges: %w", maxRanges, vdcore.ErrUnsupported)
		}
	}
	return held, nil
}

// union merges two sorted lists.
func union(a, b []Range) (list []Range) {
	for len(a)+len(b) > 0 {
		next := &a
		if len(a) == 0 || len(b) > 0 && b[0].Start < a[0].Start {
			next = &b
		}
		r := (*next)[0]
		*next = (*next)[1:]
		if k := len(list) - 1; k >= 0 && r.Start <= list[k].end() {
			list[k].Length = max(list[k].end(), r.end()) - list[k].Start
			continue
		}
		list = append(list, r)
	}
	return list
}

// intersect keeps what is in both of two sorted lists.
func intersect(a, b []Range) (list []Range) {
	for len(a) > 0 && len(b) > 0 {
		from, to := max(a[0].Start, b[0].Start), min(a[0].end(), b[0].end())
		if from < to {
			list = append(list, Range{from, to - from})
		}
		if a[0].end() < b[0].end() {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return list
}
