package evidence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	_ "vdfs/formats/raw"
	"vdfs/vdcore"
)

// rawChain opens a plain disk in a folder of its own.
func rawChain(t *testing.T, o vdcore.Options) (*vdcore.Chain, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := vdcore.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, path
}

// news collects what is told.
type news struct {
	mu   sync.Mutex
	list []Change
}

func (n *news) told(c Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, c)
}

// TestWatch: what is found of a file adds up, is told when it is new, and stays, also
// when the file is again what it was.
func TestWatch(t *testing.T) {
	c, path := rawChain(t, vdcore.Options{})
	var n news
	w, err := NewWatch(n.told, c)
	if err != nil {
		t.Fatal(err)
	}
	w.Look()
	if len(n.list) != 0 || len(w.Changes()) != 0 {
		t.Fatalf("told %v before anything happened", n.list)
	}
	old := path + ".old"
	for i, step := range []struct {
		do   func() error
		what []string
	}{
		{func() error { return os.Chmod(path, 0o600) }, []string{Changed}},
		{func() error { return os.Truncate(path, 8192) }, []string{Changed, Size, Modified}},
		{func() error { return os.Rename(path, old) }, []string{Changed, Size, Modified, Gone}},
		{func() error { return os.WriteFile(path, nil, 0o600) }, []string{Changed, Size, Modified, Gone, Identity}},
		{func() error { return os.Rename(old, path) }, nil},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		w.Look()
		w.Look()
		want := i + 1
		if step.what == nil {
			want = i
		} else if got := w.Changes(); len(got) != 1 || got[0].File != path || !slices.Equal(got[0].What, step.what) {
			t.Errorf("step %d: %v, want %v", i, got, step.what)
		}
		if len(n.list) != want {
			t.Errorf("step %d: told %d times", i, len(n.list))
		}
	}
	if err := w.Finish(); !errors.Is(err, ErrChanged) {
		t.Errorf("at the end: %v", err)
	}
}

// TestWatchUnseen: what cannot be looked at is waited for, and counts at the end.
func TestWatchUnseen(t *testing.T) {
	c, path := rawChain(t, vdcore.Options{})
	var n news
	w, err := NewWatch(n.told, c)
	if err != nil {
		t.Fatal(err)
	}
	// A link that leads to itself stands for a folder that does not answer: root may look
	// into every other.
	dir := filepath.Dir(path)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Rename(dir+".away", dir) })
	if err := os.Symlink(dir, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	w.Look()
	if len(n.list) != 0 {
		t.Errorf("told: %v", n.list)
	}
	if err := w.Finish(); !errors.Is(err, ErrChanged) || w.Changes()[0].What[0] != Unseen {
		t.Errorf("at the end: %v", err)
	}
}

// TestWatchOwn: an image that is open for writing is not watched.
func TestWatchOwn(t *testing.T) {
	c, path := rawChain(t, vdcore.Options{Write: true})
	w, err := NewWatch(func(c Change) { t.Errorf("told: %v", c) }, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Error(err)
	}
}

// TestAuditParallel: lines of many goroutines and of two mounts are whole, and a line a
// crash has cut off spoils none that follow.
func TestAuditParallel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	first, err := OpenAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Begin(Beginning{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"vdfs_audit":1,"ti`)
	f.Close()
	second, err := OpenAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, a := range []*Audit{first, second} {
		for range 10 {
			all.Go(func() {
				for range 20 {
					id := a.Opened("disk.raw", "read", Caller{PID: uint32(os.Getpid())})
					a.Failed("read", "disk.raw", 0, 512, errors.New("x"))
					a.Changed(Change{File: "y"})
					a.Closed(id)
				}
			})
		}
	}
	all.Wait()
	for _, a := range []*Audit{first, second} {
		if err := a.End(Ending{}); err != nil {
			t.Error(err)
		}
	}
	checkLines(t, path, 1, 1+2*(10*20*4+1))
}

// TestAuditBurst: after a burst there is a line for an open now and then, which counts
// those left out.
func TestAuditBurst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	a, err := OpenAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	a.filled = time.Now().Add(time.Hour) // no token comes by itself
	for range maxUses + 100 {
		a.Closed(a.Opened("disk.raw", "read", Caller{}))
	}
	if a.unlogged != 100 || a.missed != 100 || len(a.uses) != 0 {
		t.Errorf("%d and %d left out, %d open", a.unlogged, a.missed, len(a.uses))
	}
	a.filled = time.Now().Add(-usesEvery)
	a.Opened("disk.raw", "read", Caller{})
	if a.unlogged != 0 || a.missed != 100 {
		t.Errorf("%d and %d left out", a.unlogged, a.missed)
	}
	if err := a.End(Ending{}); err != nil {
		t.Error(err)
	}
	checkLines(t, path, 0, 2*maxUses+2)
}
