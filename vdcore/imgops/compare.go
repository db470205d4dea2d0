package imgops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"vdfs/vdcore"
)

// Range is a part of a disk, in bytes.
type Range struct {
	Start  int64 `json:"start"`
	Length int64 `json:"length"`
}

func (r Range) end() int64 { return r.Start + r.Length }

// Difference is what Compare found.
type Difference struct {
	First  int64   // the first byte that differs, -1 when none does
	Ranges []Range // whole sectors that differ, in order, joined; the first one only unless all were wanted
	// Longer is how many bytes one disk goes on behind the end of the other: they count
	// as different unless they read as zeros.
	Longer int64
}

// Equal reports whether the disks show the same, and at most zeros more.
func (d *Difference) Equal() bool { return d.First < 0 }

// maxRanges bounds Difference.Ranges: 16 bytes each.
const maxRanges = 1 << 22

// Compare looks for where two disks differ. What both read as zeros, and what both have
// from the same place in the same file, is not read.
func Compare(ctx context.Context, a, b *vdcore.Disk, all bool, progress Progress) (Difference, error) {
	size, end := min(a.Capacity(), b.Capacity()), max(a.Capacity(), b.Capacity())
	c := &comparison{a: a, b: b, all: all, end: end, count: &counter{total: end, report: progress}}
	c.found = Difference{First: -1, Longer: end - size}
	ctx, c.stop = context.WithCancelCause(ctx)
	defer c.stop(nil)
	err := relay(ctx, c.feed, func() runner[piece] { return &comparer{comparison: c} })
	if context.Cause(ctx) == errFound {
		err = nil
	}
	return c.found, err
}

// comparison is two disks on their way through the relay.
type comparison struct {
	a, b  *vdcore.Disk
	all   bool
	end   int64 // of the larger disk
	count *counter
	stop  context.CancelCauseFunc
	found Difference
}

// errFound ends a comparison of which the first difference is all that is wanted.
var errFound = errors.New("found")

// feed sends what may differ.
func (c *comparison) feed(ctx context.Context, send func(piece) bool) error {
	f := &feeder{send: send, skip: c.count.skipper(ctx), end: c.end, unit: sectorSize, chunk: readChunk}
	err := c.walk(func(x, y vdcore.Flat) bool { return same(x, y) || f.data(x.Off, x.End()) })
	f.flush(c.end)
	return err
}

// walk calls do for the extents of both disks, cut to be the same ranges, until it
// returns false. Behind its end a disk reads as zeros.
func (c *comparison) walk(do func(x, y vdcore.Flat) bool) error {
	goOn := true
	var failed error
	err := extentsOf(c.a, 0, c.end, func(x vdcore.Flat) bool {
		failed = extentsOf(c.b, x.Off, x.End(), func(y vdcore.Flat) bool {
			part := x
			part.Extent = x.Clip(y.Off, y.End())
			goOn = do(part, y)
			return goOn
		})
		return goOn && failed == nil
	})
	if err == nil {
		err = failed
	}
	return err
}

// extentsOf is Each, with zeros behind the end of the disk.
func extentsOf(d *vdcore.Disk, off, end int64, do func(vdcore.Flat) bool) error {
	goOn := true
	err := d.Each(off, end-off, func(f vdcore.Flat) bool {
		goOn = do(f)
		return goOn
	})
	if from := max(off, d.Capacity()); err == nil && goOn && from < end {
		do(vdcore.Flat{Extent: vdcore.Extent{Off: from, Len: end - from, Kind: vdcore.Zero}, Layer: -1})
	}
	return err
}

// same reports whether the map alone tells that two extents read alike.
func same(x, y vdcore.Flat) bool {
	switch {
	case x.Kind != y.Kind:
		return false
	case x.Kind == vdcore.Zero:
		return true
	case x.Kind == vdcore.Lost:
		return false
	}
	return x.Path == y.Path && x.Pos == y.Pos && x.Skip == y.Skip
}

// comparer is one goroutine's part of a comparison.
type comparer struct {
	*comparison
	x, y   [readChunk]byte
	first  int64 // in the piece at hand, -1
	ranges []Range
}

func (c *comparer) before(p *piece) error {
	c.first, c.ranges = -1, c.ranges[:0]
	x, y := c.x[:p.n], c.y[:p.n]
	if err := readPadded(c.a, x, p.off); err != nil {
		return err
	}
	if err := readPadded(c.b, y, p.off); err != nil {
		return err
	}
	if bytes.Equal(x, y) {
		return nil
	}
	for at := 0; at < len(x); at += sectorSize {
		next := min(at+sectorSize, len(x))
		if bytes.Equal(x[at:next], y[at:next]) {
			continue
		}
		if c.first < 0 {
			c.first = p.off + int64(at+mismatch(x[at:next], y[at:next]))
		}
		c.ranges = joinRange(c.ranges, Range{p.off + int64(at), int64(next - at)})
	}
	return nil
}

// readPadded reads a range of a disk, zeros behind its end.
func readPadded(d *vdcore.Disk, p []byte, off int64) error {
	n, err := d.ReadAt(p, off)
	if err == io.EOF {
		err = nil
	}
	clear(p[n:])
	return err
}

func mismatch(x, y []byte) int {
	for i := range x {
		if x[i] != y[i] {
			return i
		}
	}
	return len(x)
}

// joinRange adds a range behind all others.
func joinRange(list []Range, r Range) []Range {
	if k := len(list) - 1; k >= 0 && list[k].end() == r.Start {
		list[k].Length += r.Length
		return list
	}
	return append(list, r)
}

func (c *comparer) turn(*piece) error {
	if c.first < 0 {
		return nil
	}
	if c.found.First < 0 {
		c.found.First = c.first
	}
	for _, r := range c.ranges {
		c.found.Ranges = joinRange(c.found.Ranges, r)
	}
	switch {
	case !c.all:
		c.found.Ranges = c.found.Ranges[:1]
		c.stop(errFound)
	case len(c.found.Ranges) > maxRanges:
		return fmt.Errorf("more than %d ranges differ: %w", maxRanges, vdcore.ErrUnsupported)
	}
	return nil
}

func (c *comparer) after(p *piece) error {
	c.count.add(p.n)
	return nil
}
