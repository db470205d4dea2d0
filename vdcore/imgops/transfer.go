package imgops

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync"

	"vdfs/vdcore"
)

// sink is where a disk's content goes.
type sink interface {
	// unit is what pieces are multiples of, bytes.
	unit() int64
	// zeros: zeros are to be brought too.
	zeros() bool
	// load makes what one goroutine brings pieces with.
	load() load
}

// load brings one piece after the other. data is nil for one that reads as zeros.
type load interface {
	pack(data []byte, p piece) error // while others are at work
	turn(data []byte, p piece) error // alone, in the disk's order
	bring() error                    // while others are at work
}

// transfer brings the content of a disk to a sink.
type transfer struct {
	disk  *vdcore.Disk
	to    sink
	count *counter
	sum   hash.Hash // nil when nobody asked
	feed  func(*feeder) error
}

// newTransfer brings all of a disk, with a checksum if one is wanted.
func newTransfer(d *vdcore.Disk, to sink, count *counter, checksum bool) *transfer {
	t := &transfer{disk: d, to: to, count: count}
	if checksum {
		t.sum = sha256.New()
	}
	t.feed = func(f *feeder) error { return f.whole(d, nil) }
	return t
}

func (t *transfer) run(ctx context.Context) error {
	return relay(ctx, func(ctx context.Context, send func(piece) bool) error {
		return t.feed(newFeeder(t.disk, t.to.unit(), t.to.zeros() || t.sum != nil, t.count.skipper(ctx), send))
	}, func() runner[piece] { return &carrier{transfer: t, load: t.to.load()} })
}

// checksum is that of what was brought, nil if nobody asked.
func (t *transfer) checksum() []byte {
	if t.sum == nil {
		return nil
	}
	return t.sum.Sum(nil)
}

// carrier is one goroutine's part of a transfer.
type carrier struct {
	*transfer
	load load
	buf  []byte
	data []byte // of the piece at hand, nil when it reads as zeros
}

func (c *carrier) before(p *piece) error {
	c.data = nil
	if !p.zero {
		if int64(cap(c.buf)) < p.n {
			c.buf = make([]byte, p.n)
		}
		c.data = c.buf[:p.n]
		if n, err := c.disk.ReadAt(c.data, p.off); err != nil && err != io.EOF {
			return err
		} else if n < len(c.data) {
			return fmt.Errorf("read %d bytes at %d: %w", p.n, p.off, io.ErrUnexpectedEOF)
		}
	}
	if p.shared {
		return nil
	}
	return c.load.pack(c.data, *p)
}

func (c *carrier) turn(p *piece) error {
	if c.sum != nil {
		c.add(*p)
	}
	if p.shared {
		return nil
	}
	return c.load.turn(c.data, *p)
}

// add enters a piece into the checksum.
func (c *carrier) add(p piece) {
	if c.data != nil {
		c.sum.Write(c.data)
		return
	}
	for n := p.n; n > 0; n -= int64(len(manyZeros)) {
		c.sum.Write(manyZeros[:min(n, int64(len(manyZeros)))])
	}
}

func (c *carrier) after(p *piece) (err error) {
	if !p.shared {
		err = c.load.bring()
	}
	c.count.add(p.n)
	return err
}

// counter adds up what several goroutines did.
type counter struct {
	mu          sync.Mutex
	done, total int64
	report      Progress
}

func (c *counter) add(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += n
	if c.report != nil {
		c.report(c.done, c.total)
	}
}

// skipper counts what takes no work, and returns false when ctx ended.
func (c *counter) skipper(ctx context.Context) func(n int64) bool {
	return func(n int64) bool {
		if ctx.Err() != nil {
			return false
		}
		c.add(n)
		return true
	}
}

const zeroUnit = 4096 // shortest run of zeros left out of a sparse file, bytes

var (
	zeros     [zeroUnit]byte
	manyZeros = make([]byte, 64<<10)
)

// zeroRun returns where the run of zero, or of nonzero, units from start ends.
func zeroRun(buf []byte, start int) (end int, zero bool) {
	unit := func(at int) bool {
		u := buf[at:min(at+zeroUnit, len(buf))]
		return bytes.Equal(u, zeros[:len(u)])
	}
	zero = unit(start)
	for end = start + zeroUnit; end < len(buf) && unit(end) == zero; end += zeroUnit {
	}
	return min(end, len(buf)), zero
}

// isZero reports whether a range holds nothing but zeros.
func isZero(buf []byte) bool {
	for len(buf) > len(zeros) {
		if !bytes.Equal(buf[:len(zeros)], zeros[:]) {
			return false
		}
		buf = buf[len(zeros):]
	}
	return bytes.Equal(buf, zeros[:len(buf)])
}

func layerError(l *vdcore.Layer, err error) error { return fmt.Errorf("%s: %w", l.Path, err) }
