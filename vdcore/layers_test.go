package vdcore_test

import (
	"bytes"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// swapping has a file become another one after it was opened for the first time.
type swapping struct {
	*vdtest.Mem
	path  string
	then  []byte
	opens atomic.Int32
}

func (s *swapping) Open(path string, mode storage.Mode) (storage.File, error) {
	if path == s.path && s.opens.Add(1) == 2 {
		s.Put(path, s.then)
	}
	return s.Mem.Open(path, mode)
}

// TestChangedMeanwhile: a parent is judged by what it is once it is locked, not by what
// was found.
func TestChangedMeanwhile(t *testing.T) {
	f := newFamily(seeded(), 3, false)
	before := f.vdis[1].Bytes()
	f.vdis[1].Mod[0] ^= 1
	s := &swapping{Mem: f.fs, path: f.paths[1], then: f.vdis[1].Bytes()}
	if bytes.Equal(before, s.then) {
		t.Fatal("nothing would change")
	}
	c, err := vdcore.OpenFS(s, f.top(), vdcore.Options{})
	if err == nil {
		c.Close()
		t.Fatal("opened, although the parent's modification UUID changed after it was found")
	}
	if want := f.paths[1] + ": " + storage.ErrChanged.Error(); !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if s.opens.Load() != 2 || s.OpenFiles() != 0 {
		t.Errorf("opened %d times, %d files left open", s.opens.Load(), s.OpenFiles())
	}
}

// TestNearestFailure: of several parents with something wrong, the message is about the
// one nearest to the top, and what lies below it is not kept open.
func TestNearestFailure(t *testing.T) {
	open := func(o vdcore.Options) (*family, *swapping, *vdcore.Chain, error) {
		f := newFamily(seeded(), 5, false)
		if err := f.fs.Remove(f.paths[0]); err != nil {
			t.Fatal(err)
		}
		s := &swapping{Mem: f.fs, path: f.paths[2], then: f.vdis[2].Bytes()[:513]} // no map
		c, err := vdcore.OpenFS(s, f.top(), o)
		return f, s, c, err
	}
	f, s, _, err := open(vdcore.Options{})
	if want := "parent of " + f.paths[3] + ": " + f.paths[2]; err == nil || !errors.Is(err, vdcore.ErrCorrupt) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if n := s.OpenFiles(); n != 0 {
		t.Errorf("%d files left open", n)
	}

	f, s, c, err := open(vdcore.Options{AllowIncomplete: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Layers()); n != 2 || s.OpenFiles() != 2 {
		t.Errorf("%d layers, %d files open, want the 2 above the broken one", n, s.OpenFiles())
	}
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, f.paths[2]) || strings.Contains(w, f.paths[1]) {
		t.Errorf("the warnings are not about the broken layer alone: %s", w)
	}
	if err := c.Close(); err != nil || s.OpenFiles() != 0 {
		t.Errorf("closed: %v, %d files left open", err, s.OpenFiles())
	}
}
