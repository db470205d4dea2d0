package vdcore_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// swapping has a file become another one after it was opened for the first time, or
// only its content change.
type swapping struct {
	*vdtest.Mem
	path    string
	then    []byte
	inPlace bool
	opens   atomic.Int32
}

func (s *swapping) Open(path string, mode storage.Mode) (storage.File, error) {
	if path != s.path || s.opens.Add(1) != 2 {
		return s.Mem.Open(path, mode)
	}
	if !s.inPlace {
		s.Put(path, s.then)
		return s.Mem.Open(path, mode)
	}
	f, err := s.Mem.Open(path, storage.ReadWrite)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(s.then, 0)
	return f, err
}

// TestChangedMeanwhile: a parent is judged by what it is once it is locked, not by what
// was found.
func TestChangedMeanwhile(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*vdtest.VDI)
		inPlace bool
		want    error
	}{
		{"another file", func(*vdtest.VDI) {}, false, storage.ErrChanged},
		{"modification UUID", func(v *vdtest.VDI) { v.Mod[0] ^= 1 }, true, vdcore.ErrInUse},
		{"parent", func(v *vdtest.VDI) { v.ParentMod[0] ^= 1 }, true, vdcore.ErrInUse},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFamily(seeded(), 3, false)
			tc.change(f.vdis[1])
			s := &swapping{Mem: f.fs, path: f.paths[1], then: f.vdis[1].Bytes(), inPlace: tc.inPlace}
			c, err := vdcore.OpenFS(s, f.top(), vdcore.Options{})
			if err == nil {
				c.Close()
				t.Fatal("opened, although the parent changed after it was found")
			}
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), "parent of "+f.top()+": "+f.paths[1]) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if s.opens.Load() != 2 || s.OpenFiles() != 0 || s.Guards() != 0 {
				t.Errorf("opened %d times, %d files left open, %d locked", s.opens.Load(), s.OpenFiles(), s.Guards())
			}
		})
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
	if s.OpenFiles() != 0 || s.Guards() != 0 {
		t.Errorf("%d files left open, %d locked", s.OpenFiles(), s.Guards())
	}

	f, s, c, err := open(vdcore.Options{AllowIncomplete: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Layers()); n != 2 || s.OpenFiles() != 2 || s.Guards() != 2 {
		t.Errorf("%d layers, %d files open, %d locked, want the 2 above the broken one", n, s.OpenFiles(), s.Guards())
	}
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, f.paths[2]) || strings.Contains(w, f.paths[1]) {
		t.Errorf("the warnings are not about the broken layer alone: %s", w)
	}
	if err := c.Close(); err != nil || s.OpenFiles() != 0 || s.Guards() != 0 {
		t.Errorf("closed: %v, %d files left open, %d locked", err, s.OpenFiles(), s.Guards())
	}
}
