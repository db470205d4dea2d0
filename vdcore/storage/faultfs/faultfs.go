package faultfs

import (
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"syscall"

	"vdfs/vdcore/storage"
)

// Op is a set of kinds of operations.
type Op uint

const (
	Read Op = 1 << iota
	Write
	Truncate
	Punch
	Allocate
	Sync
	DataSync
	Create
	Remove
	SyncDir
	Rename // and Replace and Link

	// Mutations are all that change something.
	Mutations = Write | Truncate | Punch | Allocate | Sync | DataSync | Create | Remove | SyncDir | Rename
)

var opNames = map[Op]string{
	Read: "read", Write: "write", Truncate: "truncate", Punch: "punch", Allocate: "allocate", Sync: "sync",
	DataSync: "datasync", Create: "create", Remove: "remove", SyncDir: "syncdir", Rename: "rename",
}

func (o Op) String() string {
	if name, ok := opNames[o]; ok {
		return name
	}
	return fmt.Sprintf("op(%#x)", uint(o))
}

// Rule says what fails.
type Rule struct {
	Ops     Op                     // kinds that are counted; 0 is Mutations
	Match   func(path string) bool // files that are counted; nil is all
	At      int                    // which of those fails, from 1; 0 is none
	Forever bool                   // and all after it
	Err     error                  // nil is EIO
	Short   bool                   // a failing write does its first half
}

// Event is an operation that was made to fail.
type Event struct {
	N        int // its number among those the rule counts
	Op       Op
	Path     string
	Off, Len int64
}

func (e Event) String() string {
	return fmt.Sprintf("%d: %v %s [%d,+%d)", e.N, e.Op, e.Path, e.Off, e.Len)
}

// FS passes operations on, or not.
type FS struct {
	*state
	inner storage.FS
}

var _ storage.FS = (*FS)(nil)

// state is what an FS and its narrowed views share.
type state struct {
	mu     sync.Mutex
	rule   Rule
	count  int
	quiet  int // Quietly calls under way
	failed []Event
}

// New wraps a file system.
func New(inner storage.FS, rule Rule) *FS { return &FS{state: &state{rule: rule}, inner: inner} }

// Set changes the rule and counts from the beginning.
func (s *state) Set(rule Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule, s.count, s.failed = rule, 0, nil
}

// Clear lets everything pass from now on; Count and Failed keep what they say.
func (s *state) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule.At = 0
}

// Quietly runs fn; what happens meanwhile passes and is not counted.
func (s *state) Quietly(fn func()) {
	s.silence(1)
	defer s.silence(-1)
	fn()
}

func (s *state) silence(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet += by
}

// Count is how many operations the rule was about so far.
func (s *state) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Failed lists the operations that were made to fail.
func (s *state) Failed() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.failed)
}

// verdict is what is to become of an operation.
type verdict struct {
	err   error
	short bool
}

// judge counts an operation.
func (s *state) judge(op Op, path string, off, n int64) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.rule
	ops := r.Ops
	if ops == 0 {
		ops = Mutations
	}
	if s.quiet > 0 || ops&op == 0 || r.Match != nil && !r.Match(path) {
		return verdict{}
	}
	s.count++
	if r.At == 0 || s.count < r.At || s.count > r.At && !r.Forever {
		return verdict{}
	}
	s.failed = append(s.failed, Event{s.count, op, path, off, n})
	err := r.Err
	if err == nil {
		err = syscall.EIO
	}
	return verdict{&fs.PathError{Op: op.String(), Path: path, Err: err}, r.Short && op == Write}
}

// Open fails by rule only when it is to create a file.
func (f *FS) Open(path string, mode storage.Mode) (storage.File, error) {
	if mode.Creates() {
		if v := f.judge(Create, path, 0, 0); v.err != nil {
			return nil, v.err
		}
	}
	inner, err := f.inner.Open(path, mode)
	if err != nil {
		return nil, err
	}
	return &file{File: inner, state: f.state}, nil
}

// List is passed on.
func (f *FS) List(dir string) ([]string, error) { return f.inner.List(dir) }

// Below narrows the file system under the same rule.
func (f *FS) Below(dir string) storage.FS { return &FS{state: f.state, inner: f.inner.Below(dir)} }

// Search is passed on.
func (f *FS) Search() []string { return f.inner.Search() }

// Remove fails by rule.
func (f *FS) Remove(path string) error {
	if v := f.judge(Remove, path, 0, 0); v.err != nil {
		return v.err
	}
	return f.inner.Remove(path)
}

// Rename fails by rule.
func (f *FS) Rename(old, path string) error {
	return f.name(path, func() error { return f.inner.Rename(old, path) })
}

// Replace fails by rule.
func (f *FS) Replace(old, path string) error {
	return f.name(path, func() error { return f.inner.Replace(old, path) })
}

// Link fails by rule.
func (f *FS) Link(old, path string) error {
	return f.name(path, func() error { return f.inner.Link(old, path) })
}

func (f *FS) name(path string, do func() error) error {
	if v := f.judge(Rename, path, 0, 0); v.err != nil {
		return v.err
	}
	return do()
}

// CopyOwner is passed on.
func (f *FS) CopyOwner(model, path string) error { return f.inner.CopyOwner(model, path) }

// SyncDir fails by rule.
func (f *FS) SyncDir(dir string) error {
	if v := f.judge(SyncDir, dir, 0, 0); v.err != nil {
		return v.err
	}
	return f.inner.SyncDir(dir)
}

// Users asks about the files below.
func (f *FS) Users(files []storage.File, writing bool) []storage.User {
	inner := make([]storage.File, len(files))
	for i, x := range files {
		inner[i] = x
		if own, ok := x.(*file); ok {
			inner[i] = own.File
		}
	}
	return f.inner.Users(inner, writing)
}
