package erofs

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// Devices that are none.
const (
	Hole = -1 // reads as zeros
	Copy = -2 // lies nowhere as it is: to be read from the source, and copied
)

// Extent is a range of the file and where its bytes lie. Offsets are bytes.
type Extent struct {
	Off, Len int64
	Device   int   // index into Source.Devices, or Hole or Copy
	Pos      int64 // in the device
}

func (e Extent) end() int64 { return e.Off + e.Len }

// continues reports whether e goes on where a leaves off.
func (e Extent) continues(a Extent) bool {
	return e.Device == a.Device && e.Off == a.end() && (e.Device < 0 || e.Pos == a.Pos+a.Len)
}

// Source is a file that is to be described.
type Source struct {
	Size    int64
	Devices []int64 // sizes, bytes; Each may add those it needs as it goes
	// Each yields the extents of the whole file, in order and without gaps, the same
	// each time, until yield returns false.
	Each func(yield func(Extent) bool) error
	// Content is read where chunks are copied.
	Content io.ReaderAt
}

// joined is Each with extents that continue each other made one.
func (s *Source) joined(fn func(Extent) error) error {
	var last Extent
	var failed error
	err := s.Each(func(e Extent) bool {
		if last.Len > 0 && e.continues(last) {
			last.Len += e.Len
			return true
		}
		if failed = s.check(last, e); failed == nil && last.Len > 0 {
			failed = fn(last)
		}
		last = e
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if last.end() != s.Size || last.Len <= 0 {
		return fmt.Errorf("extents up to %d of a file of %d bytes", last.end(), s.Size)
	}
	if err := s.check(last, Extent{Off: last.end(), Device: Hole}); err != nil {
		return err
	}
	return fn(last)
}

// check looks at an extent and the one behind it.
func (s *Source) check(e, next Extent) error {
	if e.Device >= 0 && e.Len > 0 && (e.Device >= len(s.Devices) || e.Pos < 0 || e.Pos > s.Devices[e.Device]-e.Len) {
		return fmt.Errorf("bytes %d to %d lie outside their device, at %d", e.Off, e.end(), e.Pos)
	}
	if next.Off != e.end() || next.Len < 0 {
		return fmt.Errorf("an extent at %d where one at %d was expected", next.Off, e.end())
	}
	return nil
}

const (
	// MaxCopy bounds the chunks that are copied, bytes. Tails and unaligned pieces are
	// few; an image of compressed grains is not, and is better read by request.
	MaxCopy = 64 << 20
	// MaxTable bounds the table, bytes: 4 TiB in chunks of 64 KiB.
	MaxTable = 512 << 20

	// maxDevices keeps the root's inode, which lies behind the device table, where a
	// 16-bit number can tell of it.
	maxDevices = 16000

	chunkCost    = 256
	maxChunkBits = 40
	noAddress    = math.MaxUint32 // of a hole
)

// ErrScattered: the extents are too small or too unaligned to be worth a table.
var ErrScattered = errors.New("too scattered for the kernel's own map")

var errCopies = fmt.Errorf("a table of %d MiB and copies of %d MiB are not enough: %w", MaxTable>>20, MaxCopy>>20, ErrScattered)

// Plan is how a file is described.
type Plan struct {
	source    *Source
	blockBits uint
	chunkBits uint
	copied    int64 // chunks
}

// NewPlan walks the extents once. ErrScattered, or errors of the source.
func NewPlan(s *Source) (*Plan, error) {
	tallies := []*tally{newTally(s, 12), newTally(s, 9)}
	if s.Size <= 0 {
		return nil, fmt.Errorf("%d bytes: %w", s.Size, ErrScattered)
	}
	err := s.joined(func(e Extent) error {
		open := false
		for _, t := range tallies {
			t.add(e)
			open = open || t.open()
		}
		if !open { // the rest of a large disk need not be looked at
			return errCopies
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(s.Devices) > maxDevices {
		return nil, fmt.Errorf("%d files: %w", len(s.Devices), ErrScattered)
	}
	var best *Plan
	for _, t := range tallies {
		if p := t.best(); p != nil && (best == nil || p.cost() < best.cost()) {
			best = p
		}
	}
	if best == nil {
		return nil, errCopies
	}
	return best, nil
}

func (p *Plan) block() int64  { return 1 << p.blockBits }
func (p *Plan) chunk() int64  { return 1 << p.chunkBits }
func (p *Plan) chunks() int64 { return (p.source.Size + p.chunk() - 1) >> p.chunkBits }
func (p *Plan) table() int64  { return p.chunks() * indexSize }

// cost weighs the table against the copies: what a chunk costs, which the kernel looks
// up each time it is read, and what a byte does, which is copied once.
func (p *Plan) cost() int64 { return p.chunks()*chunkCost + p.copied<<p.chunkBits }

// Size is how large the image will be, bytes.
func (p *Plan) Size() int64 {
	return p.placement().copies + p.copied<<p.chunkBits + p.block()
}

// String is for the log.
func (p *Plan) String() string {
	return fmt.Sprintf("blocks of %d bytes, chunks of %d KiB, a table of %d KiB, %d KiB copied",
		p.block(), p.chunk()>>10, p.table()>>10, p.copied<<p.chunkBits>>10)
}

// usable reports whether a device can give any whole chunk of e in place.
func (p *Plan) usable(e Extent) bool {
	switch e.Device {
	case Hole:
		return true
	case Copy:
		return false
	}
	return (e.Pos-e.Off)&(p.block()-1) == 0 && (e.Pos+e.Len)>>p.blockBits < noAddress
}

// inPlace reports whether the chunk [from, to) is a part of e, a hole or where e is.
// The kernel reads the last block of the file in full, with what follows in the
// device, so a last chunk that is no multiple of blocks is copied.
func (p *Plan) inPlace(e Extent, from, to int64) bool {
	return e.Off <= from && to <= e.end() && p.usable(e) && (e.Device == Hole || to&(p.block()-1) == 0)
}

// tally counts, for each chunk size, how many chunks would have to be copied.
type tally struct {
	plan   Plan
	top    uint // larger chunks, in bits, would have to be copied too often
	copied [maxChunkBits + 1]int64
	next   [maxChunkBits + 1]int64 // chunk; those before have been counted
}

func newTally(s *Source, blockBits uint) *tally {
	return &tally{plan: Plan{source: s, blockBits: blockBits}, top: maxChunkBits}
}

func (t *tally) add(e Extent) {
	whole := !t.plan.usable(e)
	odd := e.end() == t.plan.source.Size && e.Device != Hole && e.end()&(t.plan.block()-1) != 0
	for bits := t.plan.blockBits; bits <= t.top; bits++ {
		last := (e.end() - 1) >> bits
		if whole {
			t.count(bits, e.Off>>bits, last)
			continue
		}
		if e.Off&(1<<bits-1) != 0 {
			t.count(bits, e.Off>>bits, e.Off>>bits)
		}
		if odd {
			t.count(bits, last, last)
		}
	}
	for t.open() && t.copied[t.top] > MaxCopy>>t.top { // of larger chunks more bytes are copied, never fewer
		t.top--
	}
}

// open reports whether there may be a size of chunks yet of which few enough are copied.
func (t *tally) open() bool { return t.top >= t.plan.blockBits }

func (t *tally) count(bits uint, from, to int64) {
	if from = max(from, t.next[bits]); from <= to {
		t.copied[bits] += to - from + 1
		t.next[bits] = to + 1
	}
}

// best is the chunk size that takes least space, nil when none is within bounds.
func (t *tally) best() (best *Plan) {
	for bits := t.plan.blockBits; bits <= t.top; bits++ {
		p := t.plan
		p.chunkBits, p.copied = bits, t.copied[bits]
		if p.table() <= MaxTable && (best == nil || p.cost() <= best.cost()) {
			best = &p
		}
	}
	return best
}
