package vdtest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"vdfs/vdcore/storage/crashfs"
)

// Model runs a random workload on a writable image and compares everything it
// shows with a plain byte slice: writes of every size and alignment, zeros, what
// is there already, reads, discards, allocations, syncs, closing and opening
// again, and several goroutines at once. At the end, and now and then before, the
// image is read from another opening; its parents must be what they were.
func Model(t *testing.T, c WriteCase, seed uint64, steps int) {
	t.Helper()
	f := c.fs()
	r := newRun(&c, f, c.Flat)
	defer watch("%s, seed %d", c.Name, seed)()
	err := guarded(func() error {
		if err := r.open(true); err != nil {
			return err
		}
		if err := r.all(c.script(rand.New(rand.NewPCG(seed, 11)), modelMix, steps)); err != nil {
			return err
		}
		if err := r.whole(); err != nil {
			return err
		}
		return errors.Join(r.close(), r.look(), c.untouched(f), c.unchanged(f))
	})
	if err != nil {
		t.Fatalf("%s, seed %d: %v\nlast operations:\n%s", c.Name, seed, err, f.Trace(20))
	}
	if n := f.OpenFiles(); n != 0 {
		t.Errorf("%d files left open", n)
	}
	c.check(t, f, false)
}

// check calls the case's own check, on a copy.
func (c *WriteCase) check(t testing.TB, f *crashfs.FS, crashed bool) {
	t.Helper()
	if c.Check != nil {
		c.Check(t, f.Clone(), c.Open, crashed)
	}
}

// guarded turns a panic into an error, so that the case and the cut can be named.
func guarded(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = unexpected{fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	return fn()
}

// patience is how long one run, of milliseconds, may take on a busy machine.
const patience = time.Minute

// watch ends the program, with the stacks of all goroutines, when the function it
// returns is not called in time: something waits for ever.
func watch(format string, args ...any) (done func()) {
	timer := time.AfterFunc(patience, func() {
		debug.SetTraceback("all")
		panic("stuck: " + fmt.Sprintf(format, args...))
	})
	return func() { timer.Stop() }
}

// together has two goroutines write neighbouring pieces of one range, so that they
// meet in the same blocks, while others read it sector by sector and one syncs. A
// sector shows what it had or what it gets, whoever looks.
func (r *run) together(s step) error {
	g := rand.New(rand.NewPCG(s.seed, 1))
	off := s.off / sectorSize * sectorSize
	first, end := sectorRange(off, s.n)
	end = min(end, int64(len(r.o.cur))/sectorSize)
	if first >= end {
		return nil
	}
	content := make([]byte, (end-first)*sectorSize)
	randomBytes(g, content)
	old := r.o.write(content, off)
	piece := sectorSize * (1 + g.Int64N(16))
	var wg sync.WaitGroup
	var errs [5]error
	for k := range int64(2) {
		wg.Go(func() { errs[k] = r.pieces(content, off, k*piece, 2*piece, piece) })
	}
	for k := range uint64(2) {
		wg.Go(func() { errs[2+k] = r.watchSectors(old, content, off, rand.New(rand.NewPCG(s.seed, 2+k))) })
	}
	wg.Go(func() { errs[4] = r.d.Sync() })
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	return r.read(off, int64(len(content)))
}

// pieces writes every second piece of content.
func (r *run) pieces(content []byte, off, from, stride, piece int64) error {
	for at := from; at < int64(len(content)); at += stride {
		p := content[at:min(at+piece, int64(len(content)))]
		if _, err := r.d.WriteAt(p, off+at); err != nil {
			return fmt.Errorf("write at %d: %w", off+at, err)
		}
		got := make([]byte, len(p)) // the writer sees it once WriteAt returned
		if _, err := r.d.ReadAt(got, off+at); err != nil || !bytes.Equal(got, p) {
			return fmt.Errorf("the write of [%d,+%d) is not seen: %w", off+at, len(p), err)
		}
	}
	return nil
}

// watchSectors reads sectors of a range that is being changed.
func (r *run) watchSectors(old, content []byte, off int64, g *rand.Rand) error {
	buf := make([]byte, sectorSize)
	for range 100 {
		at := g.Int64N(int64(len(content))/sectorSize) * sectorSize
		if _, err := r.d.ReadAt(buf, off+at); err != nil {
			return fmt.Errorf("read at %d: %w", off+at, err)
		}
		if !bytes.Equal(buf, old[at:at+sectorSize]) && !bytes.Equal(buf, content[at:at+sectorSize]) {
			return fmt.Errorf("sector at %d, being written, is neither old nor new: %s", off+at, r.o.describe(buf, (off+at)/sectorSize))
		}
	}
	return nil
}
