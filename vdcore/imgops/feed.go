package imgops

import (
	"vdfs/vdcore"
)

const (
	// readChunk is how much is read at a time, bytes: what fits into a processor's
	// own cache is there still when it is written.
	readChunk = 256 << 10
	// zeroChunk is how many zeros go on their way at a time, bytes.
	zeroChunk = 16 << 20
)

// piece is a range of a disk on its way.
type piece struct {
	off, n int64
	zero   bool // reads as zeros: nothing is read
	shared bool // is in the target already: nothing is written
}

// feeder cuts a disk into pieces, in order.
type feeder struct {
	send  func(piece) bool
	skip  func(n int64) bool // is told of what is not sent; like send, it may stop
	end   int64              // of the disk
	unit  int64              // pieces begin and end at its multiples, or with the disk
	chunk int64              // no piece is longer, nor crosses a multiple: a multiple of unit
	zeros bool               // zeros are sent too, and what is shared

	from, to int64 // data not sent yet; all before is
	stopped  bool
}

func newFeeder(d *vdcore.Disk, unit int64, zeros bool, skip func(int64) bool, send func(piece) bool) *feeder {
	chunk := max(readChunk/unit, 1) * unit
	return &feeder{send: send, skip: skip, end: d.Capacity(), unit: unit, chunk: chunk, zeros: zeros}
}

// data notes that [off, end) is to be read. What lies between it and the range
// before reads as zeros.
func (f *feeder) data(off, end int64) bool {
	off -= off % f.unit
	end = min((end+f.unit-1)/f.unit*f.unit, f.end)
	if off > f.to {
		f.flush(off)
	}
	f.to = max(f.to, end)
	for next := (f.from/f.chunk + 1) * f.chunk; f.to >= next; next += f.chunk {
		f.put(piece{off: f.from, n: next - f.from})
		f.from = next
	}
	return !f.stopped
}

// flush sends the data noted so far, and zeros up to an offset.
func (f *feeder) flush(upTo int64) {
	if f.from < f.to {
		f.put(piece{off: f.from, n: f.to - f.from})
	}
	for f.from = f.to; f.from < upTo; {
		n := min(upTo-f.from, zeroChunk)
		if !f.zeros {
			n = upTo - f.from
		}
		f.put(piece{off: f.from, n: n, zero: true})
		f.from += n
	}
	f.to = upTo
}

// share notes that [off, end) is in the target.
func (f *feeder) share(off, end int64) bool {
	f.flush(off)
	for at := off; at < end; {
		n := min(end, (at/f.chunk+1)*f.chunk) - at
		if !f.zeros {
			n = end - at
		}
		f.put(piece{off: at, n: n, shared: true})
		at += n
	}
	f.from, f.to = end, end
	return !f.stopped
}

func (f *feeder) put(p piece) {
	if f.stopped {
		return
	}
	if (p.zero || p.shared) && !f.zeros {
		f.stopped = !f.skip(p.n)
		return
	}
	f.stopped = !f.send(p)
}

// whole sends all of a disk; share, which may be nil, brings a part of an extent to
// the target in another way, and returns which.
func (f *feeder) whole(d *vdcore.Disk, share func(vdcore.Flat) (from, to int64)) error {
	err := d.Each(0, f.end, func(x vdcore.Flat) bool {
		if x.Kind == vdcore.Zero {
			return !f.stopped
		}
		from, to := x.Off, x.Off
		if share != nil {
			from, to = share(x)
		}
		if from >= to {
			return f.data(x.Off, x.End())
		}
		return (from == x.Off || f.data(x.Off, from)) && f.share(from, to) && (to == x.End() || f.data(to, x.End()))
	})
	f.flush(f.end)
	return err
}

// layerStep is how much of a layer is mapped at a time, bytes.
const layerStep = 1 << 30

// own sends what a layer holds itself, zeros included.
func (f *feeder) own(l *vdcore.Layer) error {
	err := eachOwn(l, func(e vdcore.Extent) bool { return f.data(e.Off, e.End()) })
	f.flush(f.end)
	return err
}

// eachOwn calls do for what a layer holds itself, in order, until it returns false.
func eachOwn(l *vdcore.Layer, do func(vdcore.Extent) bool) error {
	var extents []vdcore.Extent
	for off, end := int64(0), l.Info().Capacity; off < end; off += layerStep {
		var err error
		if extents, err = l.Image.Map(extents[:0], off, min(layerStep, end-off)); err != nil {
			return layerError(l, err)
		}
		for _, e := range extents {
			if e.Kind != vdcore.Free && !do(e) {
				return nil
			}
		}
	}
	return nil
}
