package vdtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
)

// Operation is something done to a whole image that nobody has open, as editing,
// compacting, resizing, merging and repairing are.
type Operation struct {
	Name  string
	Files map[string][]byte // what there is before, by absolute path
	// Do does it from beginning to end, closes what it opened, and must be able to go
	// on after a cut: it is called again for what survived.
	Do func(fsys storage.FS) error
	// Look fails unless a state is one that may be: that from before or that from
	// after, or, once Do has returned nil (done), only the latter. It changes nothing.
	Look func(fsys storage.FS, done bool) error
}

// CrashOperation lets the power go at every operation on files that Do performs. Of
// the states that may survive several are looked at; then Do goes on there, is cut
// once more, and must come to its end.
func CrashOperation(t *testing.T, o Operation, opt CrashOptions) {
	t.Helper()
	l := &operationLoop{Operation: o, opt: opt.filled(), base: crashfs.New()}
	for _, path := range slices.Sorted(maps.Keys(o.Files)) {
		l.base.Put(path, o.Files[path])
	}
	f := l.base.Clone()
	if err := l.finish(f); err != nil {
		t.Fatalf("%s: without a cut: %v", o.Name, err)
	}
	n, bad := f.Ops(), 0
	for _, k := range sample(n, l.opt.MaxCuts) {
		if err := l.cut(k); err != nil {
			t.Errorf("%s, cut at %d of %d: %v", o.Name, k, n, err)
			if bad++; bad > 3 {
				break
			}
		}
	}
	t.Logf("%s: %d operations, %d cuts, %d surviving states", o.Name, n, l.cuts, l.states)
}

type operationLoop struct {
	Operation
	opt          CrashOptions
	base         *crashfs.FS
	cuts, states int
}

// finish does the operation, which must work.
func (l *operationLoop) finish(f *crashfs.FS) error {
	defer watch("%s", l.Name)()
	if err := guarded(func() error { return l.Do(f) }); err != nil {
		return fmt.Errorf("%w; operations:\n%s", err, f.Trace(16))
	}
	if n := f.OpenFiles(); n != 0 {
		return fmt.Errorf("%d files left open", n)
	}
	return l.look(f, true)
}

func (l *operationLoop) look(f *crashfs.FS, done bool) error {
	n := f.Ops()
	if err := guarded(func() error { return l.Look(f, done) }); err != nil {
		return fmt.Errorf("looking (done: %v): %w; operations:\n%s", done, err, f.Trace(16))
	}
	if f.Ops() != n {
		return fmt.Errorf("looking changed something:\n%s", f.Trace(f.Ops()-n))
	}
	return nil
}

// until runs the operation into the power cut at k.
func (l *operationLoop) until(f *crashfs.FS, k int) error {
	defer watch("%s, cut at %d", l.Name, k)()
	l.cuts++
	f.CutAt(k)
	err := guarded(func() error { return l.Do(f) })
	if err != nil && !f.Cut() {
		return fmt.Errorf("not the cut: %w; operations:\n%s", err, f.Trace(16))
	}
	if n := f.OpenFiles(); n != 0 {
		return fmt.Errorf("%d files left open; operations:\n%s", n, f.Trace(16))
	}
	return nil
}

func (l *operationLoop) cut(k int) error {
	f := l.base.Clone()
	if err := l.until(f, k); err != nil {
		return err
	}
	modes := crashfs.Modes()
	for j := range l.opt.Survivors {
		mode := modes[j%len(modes)]
		r := rand.New(rand.NewPCG(l.opt.Seed<<32|uint64(k), uint64(j)))
		if err := l.survivor(f.SurviveAs(mode, r), r); err != nil {
			return fmt.Errorf("survivor %d (%v): %w\nuntil the power went:\n%s", j, mode, err, f.Trace(16))
		}
	}
	return nil
}

// survivor looks at a state, cuts the operation once more, and ends it.
func (l *operationLoop) survivor(s *crashfs.FS, r *rand.Rand) error {
	l.states++
	if err := l.look(s, false); err != nil {
		return err
	}
	second := s.Clone()
	if err := l.finish(s); err != nil {
		return fmt.Errorf("going on: %w", err)
	}
	if s.Ops() == 0 {
		return nil
	}
	if err := l.until(second, 1+r.IntN(s.Ops())); err != nil {
		return fmt.Errorf("cut once more: %w", err)
	}
	modes := crashfs.Modes()
	again := second.SurviveAs(modes[r.IntN(len(modes))], r)
	if err := l.look(again, false); err != nil {
		return fmt.Errorf("cut once more: %w\nuntil then:\n%s", err, second.Trace(16))
	}
	return l.finish(again)
}
