package vdtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage/crashfs"
	"vdfs/vdcore/storage/faultfs"
)

// faultKinds are what is made to fail, at every operation in turn.
var faultKinds = []struct {
	name string
	rule faultfs.Rule
}{
	{"EIO once", faultfs.Rule{Err: syscall.EIO}},
	{"EIO for ever", faultfs.Rule{Err: syscall.EIO, Forever: true}},
	{"ENOSPC once", faultfs.Rule{Err: syscall.ENOSPC, Ops: growing}},
	{"ENOSPC for ever", faultfs.Rule{Err: syscall.ENOSPC, Ops: growing, Forever: true}},
	{"short write once", faultfs.Rule{Err: syscall.ENOSPC, Ops: faultfs.Write, Short: true}},
	{"short writes for ever", faultfs.Rule{Err: syscall.ENOSPC, Ops: faultfs.Write, Short: true, Forever: true}},
	{"EIO of a read", faultfs.Rule{Err: syscall.EIO, Ops: faultfs.Read}},
	{"EIO of all reads", faultfs.Rule{Err: syscall.EIO, Ops: faultfs.Read, Forever: true}},
}

// growing are the operations a full disk refuses.
const growing = faultfs.Write | faultfs.Truncate | faultfs.Allocate | faultfs.Punch | faultfs.Sync | faultfs.DataSync

// telling are the operations whose failure somebody must be told of.
const telling = faultfs.Write | faultfs.Truncate | faultfs.Sync | faultfs.DataSync

// faultLimit bounds the places tried for each kind of fault.
const faultLimit = 30

// Faults runs a script in which one operation of the file system after the other
// fails: EIO, no space, short writes, once and for ever, and reads. The error must
// reach the caller, the disk must go on reading, each sector old or new, and what a
// successful sync covered must be there when the image is opened again, also when
// the power goes.
func Faults(t *testing.T, c WriteCase) {
	t.Helper()
	limit, seeds := faultLimit, uint64(2)
	if testing.Short() {
		limit, seeds = 12, 1
	}
	var sum faultLoop
	for seed := range seeds {
		l := newFaultLoop(&c, seed)
		l.each(t, limit)
		sum.runs, sum.told, sum.states = sum.runs+l.runs, sum.told+l.told, sum.states+l.states
	}
	t.Logf("%s: %d runs with a fault, %d errors reached the caller, %d states opened again", c.Name, sum.runs, sum.told, sum.states)
}

// each runs the script with every kind of fault at up to limit places.
func (l *faultLoop) each(t *testing.T, limit int) {
	t.Helper()
	for _, kind := range faultKinds {
		n, err := l.count(kind.rule)
		if err != nil {
			t.Fatalf("%s: without a fault: %v", l.c.Name, err)
		}
		for _, at := range sample(n, limit) {
			rule := kind.rule
			rule.At = at
			if err := l.fault(rule); err != nil {
				t.Errorf("%s, seed %d: %s at %d of %d: %v", l.c.Name, l.crash.opt.Seed, kind.name, at, n, err)
				if l.bad++; l.bad > 3 {
					return
				}
			}
		}
	}
}

// faultLoop is one script with a fault at every place.
type faultLoop struct {
	c      *WriteCase
	base   *crashfs.FS
	script []step
	crash  *crashLoop // looks at what is left

	runs, told, states, bad int
}

func newFaultLoop(c *WriteCase, seed uint64) *faultLoop {
	return &faultLoop{
		c: c, base: c.fs(), script: c.script(rand.New(rand.NewPCG(seed, 31)), faultMix, 20),
		crash: newCrashLoop(nil, c, CrashOptions{Seed: seed, Steps: 12}),
	}
}

// count runs the script without a fault and counts what a rule is about.
func (l *faultLoop) count(rule faultfs.Rule) (int, error) {
	f := faultfs.New(l.base.Clone(), rule)
	err := newRun(l.c, f, l.c.Flat).start(l.script)
	return f.Count(), err
}

// fault runs the script with one rule.
func (l *faultLoop) fault(rule faultfs.Rule) error {
	defer watch("%s, %+v", l.c.Name, rule)()
	l.runs++
	below := l.base.Clone()
	f := faultfs.New(below, rule)
	r := newRun(l.c, f, l.c.Flat)
	r.quietly = f.Quietly
	told, err := 0, error(nil)
	err = guarded(func() error {
		told, err = l.through(r, f, rule.Err)
		return err
	})
	if err == nil {
		err = l.silent(f, rule, told)
	}
	f.Clear()
	if err == nil {
		err = l.left(below, r, rule)
	}
	l.told += told
	if err != nil {
		return fmt.Errorf("%w\nfailed: %v\noperations:\n%s", err, f.Failed(), below.Trace(16))
	}
	return nil
}

// through does the whole script, whatever fails in it, and counts the errors.
func (l *faultLoop) through(r *run, f *faultfs.FS, want error) (told int, err error) {
	judge := func(err error) error {
		if err != nil {
			told++
			err = acceptable(err, want, f, told)
		}
		return err
	}
	err = judge(r.open(true))
	for _, s := range l.script {
		if r.d == nil && err == nil {
			err = l.reopen(r, judge)
		}
		if r.d == nil || err != nil {
			break
		}
		failed := r.do(s)
		if err = judge(failed); err == nil && failed != nil && r.d != nil {
			f.Quietly(func() { err = r.whole() })
		}
	}
	if err != nil {
		r.abandon()
		return told, err
	}
	err = judge(r.close())
	return told, err
}

// acceptable returns nil for an error that follows from the injected one.
func acceptable(err, want error, f *faultfs.FS, told int) error {
	bad := unexpected{}
	switch {
	case errors.As(err, &bad):
		return err
	case len(f.Failed()) == 0:
		return fmt.Errorf("before any fault: %w", err)
	case errors.Is(err, want):
	case errors.Is(err, vdcore.ErrMissing): // says why the parent was rejected in words
	case errors.Is(err, syscall.ENOSPC) && told > 1: // room that could not be given back
	default:
		return fmt.Errorf("not the injected error: %w", err)
	}
	return nil
}

// reopen goes on after a close or an opening that failed: what is on the disk may
// be any of what was written since the last sync.
func (l *faultLoop) reopen(r *run, judge func(error) error) error {
	failed := r.open(true)
	if failed != nil {
		r.d = nil
		return judge(failed)
	}
	var got []byte
	var err error
	r.quietly(func() { got, err = r.content() })
	if err == nil {
		err = r.o.survived(got)
	}
	if err != nil {
		return unexpected{fmt.Errorf("opened again after a failed close: %w", err)}
	}
	r.o.take(got)
	return nil
}

// silent reports a failure nobody was told of. When space ran out once, room may
// have been made, and the operation done again.
func (l *faultLoop) silent(f *faultfs.FS, rule faultfs.Rule, told int) error {
	if rule.Err == syscall.ENOSPC && !rule.Forever {
		return nil
	}
	for _, e := range f.Failed() {
		if e.Op&telling != 0 && told == 0 {
			return fmt.Errorf("nobody was told that this failed: %v", e)
		}
	}
	return nil
}

// left opens what is left, as it is and as a power cut may leave it, and writes on.
func (l *faultLoop) left(below *crashfs.FS, r *run, rule faultfs.Rule) error {
	if err := errors.Join(l.crash.leaks(below, below), l.c.unchanged(below)); err != nil {
		return err
	}
	g := rand.New(rand.NewPCG(uint64(rule.At), 33))
	for _, m := range []crashfs.Mode{crashfs.Everything, crashfs.Nothing, crashfs.Mode(g.IntN(len(crashfs.Modes())))} {
		l.states++
		s := below.SurviveAs(m, g)
		got, err := l.crash.inspect(s, r)
		if err == nil {
			err = l.crash.writeOn(s, got)
		}
		if err != nil {
			return fmt.Errorf("what is left (%v): %w\noperations then:\n%s", m, err, s.Trace(16))
		}
	}
	return nil
}
