package vdtest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"vdfs/vdcore/storage"
)

// stepKind is one thing a workload does.
type stepKind int

const (
	doWrite stepKind = iota
	doRead
	doDiscard
	doAllocate
	doSync
	doReopen   // close and open again
	doLook     // close, compare everything read-only, open again
	doTogether // writers, readers and a sync at once
)

// What a write writes.
const (
	fillRandom = iota
	fillZero
	fillSame   // what is there already
	fillHoles  // random, with zeros in between
	fillRepeat // one byte
	fills
)

// step is one step of a script. What it writes follows from seed.
type step struct {
	kind   stepKind
	off, n int64
	fill   int
	seed   uint64
}

func (s step) String() string {
	names := [...]string{"write", "read", "discard", "allocate", "sync", "reopen", "look", "together"}
	fill := [...]string{"", " of zeros", " of the same", " with holes", " of one byte"}
	switch s.kind {
	case doWrite:
		return fmt.Sprintf("write%s [%d,+%d)", fill[s.fill], s.off, s.n)
	case doSync, doReopen, doLook:
		return names[s.kind]
	}
	return fmt.Sprintf("%s [%d,+%d)", names[s.kind], s.off, s.n)
}

// mix says how often each kind of step is chosen, out of the sum.
type mix [doTogether + 1]int

var (
	modelMix = mix{doWrite: 40, doRead: 20, doDiscard: 12, doAllocate: 3, doSync: 8, doReopen: 3, doLook: 2, doTogether: 3}
	crashMix = mix{doWrite: 50, doRead: 4, doDiscard: 16, doAllocate: 3, doSync: 16, doReopen: 3}
	faultMix = crashMix
)

// script chooses n steps for a case.
func (c *WriteCase) script(r *rand.Rand, m mix, n int) []step {
	sum := 0
	for _, weight := range m {
		sum += weight
	}
	list := make([]step, n)
	last := int64(0) // what was touched before is touched again half of the time
	for i := range list {
		pick, kind := r.IntN(sum), doWrite
		for ; pick >= m[kind]; kind++ {
			pick -= m[kind]
		}
		s := step{kind: kind, seed: r.Uint64()}
		if i == 0 || r.IntN(2) == 0 {
			last = r.Int64N(int64(len(c.Flat)))
		}
		s.off, s.n = c.window(r, last)
		last = s.off
		if kind == doWrite && r.IntN(3) == 0 {
			s.fill = r.IntN(fills)
			if s.off%c.BlockSize == 0 && s.n >= c.BlockSize && r.IntN(2) == 0 {
				s.fill = fillZero // of whole blocks, which formats have words for
			}
		}
		list[i] = s
	}
	return list
}

// window chooses a range near at: a few bytes, sectors, a block, several blocks,
// the end.
func (c *WriteCase) window(r *rand.Rand, at int64) (off, n int64) {
	capacity := int64(len(c.Flat))
	off = min(at/c.BlockSize*c.BlockSize+r.Int64N(c.BlockSize), capacity-1)
	switch r.IntN(8) {
	case 0:
		n = 1 + r.Int64N(100)
	case 1, 2:
		off, n = off&^(sectorSize-1), sectorSize*(1+r.Int64N(16))
	case 3:
		off, n = off/c.BlockSize*c.BlockSize, c.BlockSize
	case 4:
		off, n = off/c.BlockSize*c.BlockSize, c.BlockSize*(1+r.Int64N(3))
	case 5:
		n = 1 + r.Int64N(3*c.BlockSize)
	case 6: // over a border of blocks
		n = 2 + r.Int64N(8192)
		off = max(0, off/c.BlockSize*c.BlockSize-r.Int64N(n))
	case 7:
		n = 1 + r.Int64N(2*c.BlockSize)
		off = max(0, capacity-n)
	}
	return off, min(n, capacity-off)
}

// run is a disk under a workload, and what it must show.
type run struct {
	c     *WriteCase
	fs    storage.FS
	d     Target // nil while closed
	o     *oracle
	steps int // done, the one that failed included
	last  string
	// quietly runs what only looks, where injected faults would be in the way.
	quietly func(func())
}

func newRun(c *WriteCase, fsys storage.FS, flat []byte) *run {
	return &run{c: c, fs: fsys, o: newOracle(flat, c.Torn), quietly: func(fn func()) { fn() }}
}

func (r *run) open(write bool) error {
	d, err := r.c.open(r.fs, write)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	r.d = d
	if n := d.Capacity(); n != int64(len(r.o.cur)) {
		return fmt.Errorf("the disk has %d bytes, want %d", n, len(r.o.cur))
	}
	return nil
}

// close closes the disk, which makes everything durable unless it fails.
func (r *run) close() error {
	if r.d == nil {
		return nil
	}
	d := r.d
	r.d = nil
	if err := d.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	r.o.sync()
	return nil
}

// all does a script and stops at the first error.
func (r *run) all(script []step) error {
	for _, s := range script {
		if err := r.do(s); err != nil {
			return err
		}
	}
	return nil
}

// do does one step. An error that is not the disk's own says what it got wrong.
func (r *run) do(s step) error {
	r.steps++
	r.last = s.String()
	err := r.step(s)
	if err != nil {
		return fmt.Errorf("step %d, %v: %w", r.steps, s, err)
	}
	return nil
}

func (r *run) step(s step) error {
	switch s.kind {
	case doWrite:
		return r.write(s.content(r.o.cur), s.off)
	case doRead:
		return r.read(s.off, s.n)
	case doDiscard:
		return r.change(make([]byte, s.n), s.off, func() error { return r.d.Discard(s.off, s.n) })
	case doAllocate:
		if err := r.d.Allocate(s.off, s.n); err != nil && !errors.Is(err, storage.ErrNoAllocate) {
			return err
		}
		return nil
	case doSync:
		if err := r.d.Sync(); err != nil {
			return err
		}
		r.o.sync()
		return nil
	case doTogether:
		return r.together(s)
	}
	if err := r.close(); err != nil {
		return err
	}
	if s.kind == doLook {
		if err := r.look(); err != nil {
			return err
		}
	}
	return r.open(true)
}

// content is what a write step writes, where cur is on the disk.
func (s step) content(cur []byte) []byte {
	p := make([]byte, s.n)
	g := rand.New(rand.NewPCG(s.seed, 0))
	switch s.fill {
	case fillRandom, fillHoles:
		randomBytes(g, p)
	case fillSame:
		copy(p, cur[s.off:])
	case fillRepeat:
		for i := range p {
			p[i] = byte(s.seed)
		}
	}
	if s.fill == fillHoles {
		for range 1 + g.IntN(4) {
			at := g.Int64N(s.n)
			clear(p[at:min(s.n, at+g.Int64N(3*r4K))])
		}
	}
	return p
}

const r4K = 4096

func (r *run) write(p []byte, off int64) error {
	return r.change(p, off, func() error {
		n, err := r.d.WriteAt(p, off)
		if err == nil && n != len(p) {
			return fmt.Errorf("wrote %d of %d bytes without an error", n, len(p))
		}
		return err
	})
}

// change does what makes [off, off+len(p)) show p, or leaves each sector as it was.
func (r *run) change(p []byte, off int64, do func() error) error {
	before := r.o.write(p, off)
	err := do()
	if cut, ok := r.fs.(interface{ Cut() bool }); err == nil || ok && cut.Cut() { // nobody reads any more
		return err
	}
	shown := make([]byte, len(before))
	var bad error
	r.quietly(func() {
		if _, bad = r.d.ReadAt(shown, off/sectorSize*sectorSize); bad == nil || bad == io.EOF {
			bad = r.o.failed(before, shown, off, int64(len(p)))
		}
	})
	if bad != nil {
		return fmt.Errorf("%v; after that: %w", err, unexpected{bad})
	}
	return err
}

// unexpected marks an error that stays one although a fault was injected.
type unexpected struct{ error }

func (r *run) read(off, n int64) error {
	p := make([]byte, n)
	if k, err := r.d.ReadAt(p, off); err != nil || int64(k) != n {
		return fmt.Errorf("read %d bytes: %w", k, err)
	}
	if err := r.o.shows(p, off); err != nil {
		return unexpected{err}
	}
	return nil
}

// content reads the whole disk.
func (r *run) content() ([]byte, error) {
	p := make([]byte, len(r.o.cur))
	if n, err := r.d.ReadAt(p, 0); err != nil || n != len(p) {
		return nil, fmt.Errorf("read %d of %d bytes: %w", n, len(p), err)
	}
	return p, nil
}

// look opens the disk read-only and compares everything.
func (r *run) look() error {
	if err := r.open(false); err != nil {
		return err
	}
	err := r.whole()
	d := r.d
	r.d = nil
	return errors.Join(err, d.Close())
}

// whole compares the content, and the holes.
func (r *run) whole() error {
	p, err := r.content()
	if err == nil {
		err = r.o.shows(p, 0)
	}
	if err == nil {
		err = checkSeeks(r.d, p)
	}
	return err
}

// checkSeeks walks a disk by its holes: they read as zeros, and data and holes
// take turns to the end.
func checkSeeks(d Target, content []byte) error {
	size := int64(len(content))
	for off := int64(0); off < size; {
		data, err := d.SeekData(off)
		if err == io.EOF {
			data, err = size, nil
		}
		if err != nil || data < off || data > size {
			return fmt.Errorf("SeekData(%d) says %d, %v", off, data, err)
		}
		if !isZero(content[off:data]) {
			return fmt.Errorf("the hole [%d,%d) does not read as zeros", off, data)
		}
		if data == size {
			return nil
		}
		hole, err := d.SeekHole(data)
		if err != nil || hole <= data || hole > size {
			return fmt.Errorf("SeekHole(%d) says %d, %v", data, hole, err)
		}
		off = hole
	}
	return nil
}
