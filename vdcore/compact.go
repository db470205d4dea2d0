package vdcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"vdfs/vdcore/storage"
)

// Compacter is a Writer that can close the gaps between what its files hold.
type Compacter interface {
	// Compact moves what lies last in the files into the gaps, and ends them behind
	// the rest. It is called when all is published and durable, and nobody reads or
	// writes any more; Finish follows. What is moved is copied, barrier, entered,
	// barrier: a power cut leaves the old place or the new one. When ctx ends it
	// returns that error, and leaves the gaps there are, as does the Finish that
	// follows. progress, which may be nil, is told the bytes moved and to be moved.
	Compact(ctx context.Context, progress func(done, total int64)) error
}

// Compacted is what a compaction has given up, in guest bytes.
type Compacted struct {
	Zeros   int64 // units full of zeros
	Same    int64 // units that held what the parents show anyway
	Punched int64 // zeros in places that stay, which became holes of the file
	Kept    int64 // held by an image that gives no unit up, a fixed one
}

// Compact gives up what the topmost image need not hold: units of zeros, and of
// what its parents show too. Then it has the format close the gaps. Neither the
// content nor the identity of the image changes, so children stay as right as they
// were. progress counts the bytes looked at, then those moved as well.
//
// The chain was opened with Options.Write, nobody uses it meanwhile, and it can only
// be closed afterwards. When ctx ends, or the power goes, the image is sound and
// some of it is compacted: doing it again goes on.
func (c *Chain) Compact(ctx context.Context, progress func(done, total int64)) (Compacted, error) {
	if c.writer == nil {
		return Compacted{}, c.Top().refuse()
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	s := &sweep{writer: c.writer, ctx: ctx, progress: progress}
	err := s.run()
	return s.found, err
}

const (
	sweepUnits = 256       // units looked at in one turn, by all processors
	sweepFirst = 4 << 10   // bytes of one unit looked at first: mostly they tell
	sweepBytes = 128 << 10 // bytes of one unit looked at a time then
	zeroGrain  = 4 << 10   // shortest run of zeros that becomes a hole, bytes
)

// sweep looks for units the image need not hold.
type sweep struct {
	*writer
	ctx      context.Context
	progress func(done, total int64)
	done     int64 // bytes looked at
	total    int64 // bytes the image holds
	found    Compacted
}

func (s *sweep) run() error {
	if err := s.beginAs(false); err != nil {
		return err
	}
	s.commits.Lock()
	defer s.commits.Unlock()
	_, s.refilling = s.img.(Compacter)
	s.total = s.chain.layers[s.layer].Info().Allocated
	err := s.inTurns(0, s.disk.capacity, s.turn, s.commitAlone)
	if cerr := s.commitAlone(); err == nil || cerr != nil {
		err = errors.Join(err, cerr)
	}
	if err != nil && !s.stopped(err) {
		return err
	}
	gaps := s.closeGaps() // told of a ctx that has ended, too
	if err != nil && s.stopped(gaps) {
		return err
	}
	return errors.Join(err, gaps)
}

// stopped reports whether an error is only that ctx has ended.
func (s *sweep) stopped(err error) bool {
	cause := context.Cause(s.ctx)
	return cause != nil && errors.Is(err, cause)
}

// closeGaps has the format do its part. After an error that is not ctx's nobody
// knows what is on disk, so the image is not changed any more.
func (s *sweep) closeGaps() error {
	c, ok := s.img.(Compacter)
	if !ok || s.failed.Load() != nil {
		return nil
	}
	s.gate.Lock() // units move: nothing may be on its way to them
	defer s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := c.Compact(s.ctx, func(done, total int64) { s.progress(s.done+done, s.total+total) })
	if err == nil || s.stopped(err) {
		return err
	}
	err = fmt.Errorf("%s: %w", s.path(), err)
	s.failed.CompareAndSwap(nil, &err)
	return err
}

// turn looks at some of [off, end), and returns how far it came.
func (s *sweep) turn(off, end int64) (int64, error) {
	s.gate.Lock()
	defer s.gate.Unlock()
	if err := context.Cause(s.ctx); err != nil {
		return off, err
	}
	var units []Unit
	for n := 0; off < end && n < unitsAtOnce && len(units) < sweepUnits; n++ {
		f, err := s.disk.extentAt(off)
		if err != nil {
			return off, err
		}
		if !s.owns(f) {
			off = f.End()
			continue
		}
		u := s.unit(off)
		switch {
		case u.Fixed:
			off, err = s.punchZeros(f.Extent.Clip(off, min(f.End(), off+sweepUnits<<20)))
			n = unitsAtOnce
		case !s.img.Can(Free) && !s.img.Can(Zero):
			s.found.Kept += u.Len
			off = u.End()
		default:
			units = append(units, u)
			off = u.End()
		}
		if err != nil {
			return off, err
		}
	}
	return off, s.judge(units)
}

// judge looks at units in parallel, and gives up those the image need not hold.
func (s *sweep) judge(units []Unit) error {
	verdicts, errs := make([]verdict, len(units)), make([]error, len(units))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(units)) {
		workers.Go(func() {
			buf, below := make([]byte, sweepBytes), make([]byte, sweepBytes)
			for i := next.Add(1) - 1; i < int64(len(units)) && s.ctx.Err() == nil; i = next.Add(1) - 1 {
				verdicts[i], errs[i] = s.look(units[i], buf, below)
			}
		})
	}
	workers.Wait()
	if err := errors.Join(append(errs, context.Cause(s.ctx))...); err != nil {
		return err
	}
	for i, u := range units {
		if err := s.apply(u, verdicts[i]); err != nil {
			return err
		}
		s.done += u.Len
	}
	s.progress(s.done, max(s.total, s.done))
	return nil
}

// verdict is what a unit turned out to be.
type verdict struct {
	zero bool // all zeros
	same bool // what the parents show
}

// look reads a unit, as far as it may be worth giving up.
func (s *sweep) look(u Unit, buf, below []byte) (verdict, error) {
	v := verdict{zero: true, same: s.layer > 0}
	if !v.same {
		if hollow, err := s.hollow(u); hollow || err != nil {
			return v, err
		}
	}
	n := int64(sweepFirst)
	for off := u.Off; off < u.End() && (v.zero || v.same); off, n = off+n, int64(len(buf)) {
		p := buf[:min(n, u.End()-off)]
		if err := s.see(p, off); err != nil {
			return v, err
		}
		v.zero = v.zero && isZero(p)
		if !v.same {
			continue
		}
		q := below[:len(p)]
		if err := s.seeBelow(q, off); err != nil {
			return v, err
		}
		v.same = bytes.Equal(p, q)
	}
	return v, nil
}

// hollow reports whether a unit lies in holes of the files: reading those would only
// fill the memory with zeros.
func (s *sweep) hollow(u Unit) (bool, error) {
	hollow, failed := true, error(nil)
	err := s.disk.Each(u.Off, u.Len, func(f Flat) bool {
		switch f.Kind {
		case Zero:
		case Data:
			var data int64
			data, failed = f.File.NextData(f.Pos)
			hollow = failed == nil && data >= f.Pos+f.Len
		default:
			hollow = false
		}
		return hollow
	})
	return hollow, errors.Join(err, failed)
}

// seeBelow fills p with what the parents show.
func (s *sweep) seeBelow(p []byte, off int64) error {
	d := s.chain.Disk(s.layer - 1)
	held := min(max(d.capacity-off, 0), int64(len(p)))
	clear(p[held:])
	return storage.ReadFull(d, p[:held], off)
}

// apply gives a unit up, if it may be.
func (s *sweep) apply(u Unit, v verdict) error {
	switch {
	case v.same && s.img.Can(Free):
		s.found.Same += u.Len
		return s.giveUp(u, Free)
	case !v.zero:
		return nil
	}
	s.mu.Lock()
	kind, ok := s.freeKind(u)
	s.mu.Unlock()
	if ok {
		s.found.Zeros += u.Len
		return s.giveUp(u, kind)
	}
	var errs []error
	err := s.disk.Each(u.Off, u.Len, func(f Flat) bool {
		errs = append(errs, s.punchRun(f.Extent, f.Off, f.End()))
		return true
	})
	return errors.Join(append(errs, err)...)
}

// punchZeros makes holes of the runs of zeros in an extent whose place stays, and
// returns its end.
func (s *sweep) punchZeros(e Extent) (int64, error) {
	buf := make([]byte, sweepBytes)
	from, at := e.Off, e.Off // of the run so far
	for at < e.End() {
		p := buf[:min(e.End()-at, sweepBytes-(e.Pos+at-e.Off)%zeroGrain)] // whole grains of the file
		if err := s.see(p, at); err != nil {
			return at, err
		}
		for len(p) > 0 {
			n := min(int64(len(p)), zeroGrain-(e.Pos+at-e.Off)%zeroGrain)
			if !isZero(p[:n]) {
				if err := s.punchRun(e, from, at); err != nil {
					return at, err
				}
				from = at + n
			}
			p, at = p[n:], at+n
		}
	}
	s.done += e.Len
	s.progress(s.done, max(s.total, s.done))
	return at, s.punchRun(e, from, at)
}

// punchRun makes a hole of the zeros [from, to) of an extent, unless they are one or
// not worth it.
func (s *sweep) punchRun(e Extent, from, to int64) error {
	if to-from < zeroGrain {
		return nil
	}
	e = e.Clip(from, to)
	f := s.files[e.File]
	data, err := f.NextData(e.Pos)
	if err != nil || data >= e.Pos+e.Len {
		return err
	}
	err = f.Punch(e.Pos, e.Len)
	if errors.Is(err, errors.ErrUnsupported) { // a file system without holes
		return nil
	}
	if err == nil {
		s.dirty[e.File].Store(true)
		s.found.Punched += e.Len
	}
	return err
}
