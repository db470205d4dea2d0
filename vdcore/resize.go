package vdcore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"vdfs/vdcore/storage"
)

// Resizer is a Writer whose disk can become larger or smaller.
type Resizer interface {
	// CanResize fails with ErrUnsupported when Resize cannot give the disk a capacity.
	CanResize(capacity int64) error
	// Resize gives the disk another capacity, in bytes. It is called after Begin, when
	// all is published and durable and nobody reads or writes any more; Finish follows.
	// What a smaller disk loses is zeros, or held by the parents only; a larger one is
	// Free or zeros in what is new. A power cut leaves the old disk or the new one. When
	// ctx ends it returns that error and leaves the old disk. fsys may write in the
	// image's folder. progress, which may be nil, is told the bytes moved or written and
	// those there are.
	Resize(ctx context.Context, fsys storage.FS, capacity int64, progress func(done, total int64)) error
}

// ErrCut: a smaller disk would lose data.
var ErrCut = fmt.Errorf("data would be cut off: %w", ErrUnsupported)

// Resize gives the disk of the topmost image another capacity, in bytes; the parents
// keep theirs. The image gets a new identity. progress counts bytes that are read to
// see that nothing is lost, and those moved.
//
// The chain was opened with Options.Write, nobody uses it meanwhile, and it can only
// be closed afterwards. When ctx ends, or the power goes, the disk has the old
// capacity or the new one and shows the same, and doing it again goes on.
func (c *Chain) Resize(ctx context.Context, capacity int64, progress func(done, total int64)) error {
	w := c.writer
	if w == nil {
		return c.Top().refuse()
	}
	r, ok := w.img.(Resizer)
	if !ok {
		return fmt.Errorf("%s: %w: %s images are not resized", w.path(), ErrUnsupported, c.Top().Layer().Info().Format)
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	s := &resize{writer: w, img: r, ctx: ctx, capacity: capacity, progress: progress}
	err := s.check()
	if err != nil {
		return fmt.Errorf("%s: %w", w.path(), err)
	}
	return s.run()
}

// resize is a disk on its way to another capacity.
type resize struct {
	*writer
	img      Resizer
	ctx      context.Context
	capacity int64
	progress func(done, total int64)
}

// check changes nothing.
func (s *resize) check() error {
	switch {
	case s.capacity <= 0 || s.capacity > MaxCapacity:
		return fmt.Errorf("a disk of %d bytes: %w; at most %d", s.capacity, ErrUnsupported, int64(MaxCapacity))
	case s.capacity < s.disk.capacity:
		if err := s.checkTail(); err != nil {
			return err
		}
	case s.layer > 0:
		if err := s.checkParents(); err != nil {
			return err
		}
	}
	return s.img.CanResize(s.capacity)
}

// checkTail refuses to cut off what the image holds, unless it is zeros. What the
// parents hold there stays with them.
func (s *resize) checkTail() error {
	lost := spans(nil)
	err := s.eachBytes(s.disk, s.capacity, s.disk.capacity, s.owns, func(p []byte, off int64) error {
		for len(p) > 0 {
			n := min(int64(len(p)), zeroGrain-off%zeroGrain)
			if !isZero(p[:n]) {
				lost = lost.add(off, off+n)
			}
			if len(lost) > maxSpans {
				return fmt.Errorf("%w: more than %d ranges", ErrCut, maxSpans)
			}
			p, off = p[n:], off+n
		}
		return nil
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	const shown = 8
	var list []string
	for _, x := range lost[:min(shown, len(lost))] {
		list = append(list, fmt.Sprintf("%d to %d", x.from, x.to))
	}
	if n := len(lost) - shown; n > 0 {
		list = append(list, fmt.Sprintf("%d more", n))
	}
	return fmt.Errorf("%w: guest bytes %s are not zeros; %d bytes are the least that keeps all of it",
		ErrCut, strings.Join(list, ", "), lost[len(lost)-1].to)
}

// checkParents refuses to grow over what parents larger than the image hold: that
// has been hidden, and would come to light.
func (s *resize) checkParents() error {
	below := s.chain.Disk(s.layer - 1)
	holds := func(f Flat) bool { return f.Kind != Zero }
	return s.eachBytes(below, s.disk.capacity, min(s.capacity, below.capacity), holds, func(p []byte, off int64) error {
		if !isZero(p) {
			return fmt.Errorf("its parent %s holds data from guest byte %d on, behind the end of this disk, and a larger one would show them: %w",
				below.Layer().Path, off, ErrUnsupported)
		}
		return nil
	})
}

// eachBytes reads those extents of [off, end) of a disk that are wanted.
func (s *resize) eachBytes(d *Disk, off, end int64, wanted func(Flat) bool, do func(p []byte, off int64) error) error {
	buf := make([]byte, sweepBytes)
	from := off
	var failed error
	err := d.Each(off, end-off, func(f Flat) bool {
		for at := f.Off; at < f.End() && wanted(f) && failed == nil; at += sweepBytes {
			p := buf[:min(f.End()-at, sweepBytes)]
			part := f
			part.Extent = f.Extent.Clip(at, at+int64(len(p)))
			if failed = context.Cause(s.ctx); failed == nil {
				failed = d.readExtent(p, part)
			}
			if failed == nil {
				failed = do(p, at)
			}
			s.progress(at-from, end-from)
		}
		return failed == nil
	})
	return errors.Join(err, failed)
}

func (s *resize) run() error {
	// With the capacity it has already, an image is only tidied up after a crash.
	if err := s.beginAs(s.capacity != s.disk.capacity); err != nil {
		return err
	}
	s.commits.Lock()
	defer s.commits.Unlock()
	if s.capacity < s.disk.capacity {
		from := max(s.capacity, s.unit(s.capacity-1).End())
		if err := s.inTurns(from, s.disk.capacity, s.giveUpTail, s.commitAlone); err != nil {
			return err
		}
	}
	if err := s.commitAlone(); err != nil {
		return err
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.img.Resize(s.ctx, s.chain.fs.Below(filepath.Dir(s.path())), s.capacity, s.progress)
	if cause := context.Cause(s.ctx); err == nil || cause != nil && errors.Is(err, cause) {
		return err
	}
	err = fmt.Errorf("%s: %w", s.path(), err)
	s.failed.CompareAndSwap(nil, &err) // nobody knows what is on disk
	return err
}

// giveUpTail gives up units of zeros that are about to be cut off. A unit that must
// hide its parent's data as long as it is seen is left to the format.
func (s *resize) giveUpTail(off, end int64) (int64, error) {
	s.gate.Lock()
	defer s.gate.Unlock()
	for n := 0; off < end && n < unitsAtOnce; n++ {
		f, err := s.disk.extentAt(off)
		if err != nil {
			return off, err
		}
		if u := s.unit(off); s.owns(f) && !u.Fixed {
			s.mu.Lock()
			kind, ok := s.freeKind(u)
			s.mu.Unlock()
			if ok {
				if err := s.giveUp(u, kind); err != nil {
					return off, err
				}
			}
			off = u.End()
			continue
		}
		off = f.End()
	}
	return off, nil
}
