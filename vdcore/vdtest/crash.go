package vdtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"vdfs/vdcore/storage/crashfs"
)

// CrashOptions shape [Crash]; the zero value is the usual run.
type CrashOptions struct {
	Seed      uint64
	Steps     int // of the script; 0 is 24
	Survivors int // states tried for each cut; 0 is 6
	MaxCuts   int // 0: every operation, a sample with -short
}

func (o CrashOptions) filled() CrashOptions {
	if o.Steps == 0 {
		o.Steps = 24
	}
	if o.Survivors == 0 {
		o.Survivors = 6
	}
	if o.MaxCuts == 0 && testing.Short() {
		o.MaxCuts = 25
	}
	return o
}

// Crash runs a script of writes, discards and syncs, and lets the power go at
// every operation in it. Of the states the files can be in after that, several are
// tried: the image must open; each sector must be what it was at the last completed
// sync, or something written since; parents must be untouched; and the image must
// take further writes, in which the power goes once more.
func Crash(t *testing.T, c WriteCase, opt CrashOptions) {
	t.Helper()
	l := newCrashLoop(t, &c, opt.filled())
	n, err := l.count()
	if err != nil {
		t.Fatalf("%s, seed %d: without a cut: %v", c.Name, l.opt.Seed, err)
	}
	for _, k := range sample(n, l.opt.MaxCuts) {
		if err := l.cut(k); err != nil {
			t.Errorf("%s, seed %d, cut at %d of %d: %v", c.Name, l.opt.Seed, k, n, err)
		}
		if l.bad > 3 || t.Failed() && err == nil {
			break
		}
	}
	t.Logf("%s, seed %d: %d operations, %d cuts, %d surviving states, %d of them written to and cut again",
		c.Name, l.opt.Seed, n, l.cuts, l.states, l.again)
}

// sample spreads at most limit numbers over 1 … n, n among them; 0 is no limit.
func sample(n, limit int) []int {
	if limit <= 0 || limit > n {
		limit = n
	}
	list := make([]int, limit)
	for i := range list {
		list[i] = (i + 1) * n / limit
	}
	return list
}

// crashLoop is the power going at every operation of one script.
type crashLoop struct {
	t      testing.TB // nil: the case's own check is left out
	c      *WriteCase
	opt    CrashOptions
	base   *crashfs.FS
	script []step
	more   []step // for what survived
	lie    func(path string, pending []int64) bool
	// plain leaves out the writing to survivors.
	plain bool

	cuts, states, again, bad int
}

func newCrashLoop(t testing.TB, c *WriteCase, opt CrashOptions) *crashLoop {
	r := rand.New(rand.NewPCG(opt.Seed, 21))
	return &crashLoop{
		t: t, c: c, opt: opt, base: c.fs(),
		script: c.script(r, crashMix, opt.Steps), more: c.script(r, crashMix, opt.Steps/3+1),
	}
}

// count runs the script to its end and says how many operations that took.
func (l *crashLoop) count() (int, error) {
	f := l.base.Clone()
	r := newRun(l.c, f, l.c.Flat)
	defer watch("%s without a cut", l.c.Name)()
	err := guarded(func() error {
		if err := r.start(l.script); err != nil {
			return err
		}
		n := f.Ops()
		if err := errors.Join(r.look(), l.c.unchanged(f), l.c.untouched(f)); err != nil {
			return err
		}
		if f.Ops() != n {
			return fmt.Errorf("an image opened read-only was written to:\n%s", f.Trace(f.Ops()-n))
		}
		return l.leaks(f, f)
	})
	if err == nil && l.t != nil {
		l.c.check(l.t, f, false)
	}
	return f.Ops(), err
}

// start opens, does a script, and closes.
func (r *run) start(script []step) error {
	err := r.open(true)
	if err == nil {
		err = r.all(script)
	}
	if err != nil {
		r.abandon()
		return err
	}
	return r.close()
}

// abandon closes what a fault or a cut left open. What Close says does not matter.
func (r *run) abandon() {
	if r.d != nil {
		r.d.Close()
		r.d = nil
	}
}

func (l *crashLoop) leaks(f, ops *crashfs.FS) error {
	if n := f.OpenFiles(); n != 0 {
		return fmt.Errorf("%d files left open; operations:\n%s", n, ops.Trace(20))
	}
	return nil
}

// cut lets the power go at operation k and looks at what survives.
func (l *crashLoop) cut(k int) error {
	defer watch("%s, seed %d, cut at %d", l.c.Name, l.opt.Seed, k)()
	l.cuts++
	f := l.base.Clone()
	f.Lie(l.lie)
	f.CutAt(k)
	r := newRun(l.c, f, l.c.Flat)
	err := l.untilCut(r, f, l.script)
	for j := 0; j < l.opt.Survivors && err == nil; j++ {
		m, g := l.mode(j, k), rand.New(rand.NewPCG(l.opt.Seed<<32|uint64(k), uint64(j)))
		l.states++
		if err = l.survivor(f, r, m, g); err != nil {
			err = fmt.Errorf("survivor %d (%v): %w\nuntil the power went (in %s):\n%s", j, m, err, r.last, f.Trace(16))
		}
	}
	if err != nil {
		l.bad++
	}
	return err
}

// mode has the extremes tried for every cut, and the others by turns.
func (l *crashLoop) mode(j, k int) crashfs.Mode {
	modes := crashfs.Modes()
	if j < 2 {
		return modes[j] // nothing, everything
	}
	rest := modes[2:]
	return rest[(j-2+k*(l.opt.Survivors-2))%len(rest)]
}

// untilCut runs a script into the cut, or to its end.
func (l *crashLoop) untilCut(r *run, f *crashfs.FS, script []step) error {
	err := guarded(func() error { return r.start(script) })
	if bad := (unexpected{}); errors.As(err, &bad) {
		return fmt.Errorf("%w; operations:\n%s", err, f.Trace(16))
	}
	if err != nil && !f.Cut() { // after it nobody is there to read what the error says
		return fmt.Errorf("not the cut: %w; operations:\n%s", err, f.Trace(16))
	}
	return errors.Join(l.leaks(f, f), l.c.unchanged(f))
}

// survivor looks at one state, writes to it, and cuts the power once more.
func (l *crashLoop) survivor(f *crashfs.FS, r *run, m crashfs.Mode, g *rand.Rand) error {
	s := f.SurviveAs(m, g)
	got, err := l.inspect(s, r)
	if err != nil || l.plain {
		return err
	}
	second := s.Clone()
	if err := l.writeOn(s, got); err != nil {
		return fmt.Errorf("writing to what survived: %w\noperations then:\n%s", err, s.Trace(16))
	}
	l.again++
	if s.Ops() == 0 {
		return nil
	}
	k := 1 + g.IntN(s.Ops())
	second.CutAt(k)
	r2 := newRun(l.c, second, got)
	err = l.untilCut(r2, second, l.more)
	if err == nil {
		mode := crashfs.Modes()[g.IntN(len(crashfs.Modes()))]
		if _, err = l.inspect(second.SurviveAs(mode, g), r2); err != nil {
			err = fmt.Errorf("second survivor (%v): %w", mode, err)
		}
	}
	if err != nil {
		return fmt.Errorf("cut once more at %d: %w\nuntil then:\n%s", k, err, second.Trace(16))
	}
	return nil
}

// inspect opens a state read-only and returns what it shows, if it may.
func (l *crashLoop) inspect(s *crashfs.FS, r *run) (got []byte, err error) {
	look := &run{c: l.c, fs: s, o: r.o}
	err = guarded(func() error {
		if err := look.open(false); err != nil {
			return err
		}
		defer look.abandon()
		if got, err = look.content(); err != nil {
			return err
		}
		return errors.Join(r.o.survived(got), checkSeeks(look.d, got))
	})
	if err == nil && s.Ops() != 0 {
		err = fmt.Errorf("an image opened read-only was written to:\n%s", s.Trace(4))
	}
	if err == nil && l.t != nil {
		l.c.check(l.t, s, true)
	}
	return got, err
}

// writeOn writes to a state and compares.
func (l *crashLoop) writeOn(s *crashfs.FS, shown []byte) error {
	r := newRun(l.c, s, shown)
	err := guarded(func() error {
		if err := r.start(l.more); err != nil {
			return fmt.Errorf("%v: %w", l.more, err)
		}
		return errors.Join(r.look(), l.leaks(s, s), l.c.unchanged(s))
	})
	if err == nil && l.t != nil {
		l.c.check(l.t, s, true)
	}
	return err
}
