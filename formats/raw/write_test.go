package raw

import (
	"bytes"
	"errors"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// TestCrash writes to a disk whose size is odd.
func TestCrash(t *testing.T) {
	flat := bytes.Repeat([]byte("plain disk "), 30000)
	c := vdtest.WriteCase{Name: "raw", Open: "/d/disk.img", Files: map[string][]byte{"/d/disk.img": flat}, Flat: bytes.Clone(flat), BlockSize: 4096}
	for seed := range uint64(3) {
		vdtest.Crash(t, c, vdtest.CrashOptions{Seed: seed, MaxCuts: 30, Survivors: 4})
	}
}

// TestWriter: a plain disk is one unit in its place, and says nothing of being
// written.
func TestWriter(t *testing.T) {
	m := vdtest.NewMem()
	content := []byte("plain disk")
	m.Put("/d/disk.img", bytes.Clone(content))
	f, err := m.Open("/d/disk.img", storage.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	img, err := open(vdcore.OpenArgs{File: f, Path: "/d/disk.img", FS: m, Tables: vdcore.NewTables(), Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	w := img.(vdcore.Writer)
	u := w.Unit(5)
	if u != (vdcore.Unit{Len: 10, Fixed: true}) {
		t.Errorf("unit %+v", u)
	}
	if w.Can(vdcore.Zero) || w.Can(vdcore.Free) {
		t.Error("it cannot lose what it holds")
	}
	if err := errors.Join(w.Begin(true), w.Prepare(nil), w.Publish(nil), w.Finish()); err != nil {
		t.Error(err)
	}
	changes := []vdcore.Change{{Unit: u, Kind: vdcore.Zero}}
	_, err = w.Reserve(u)
	for _, err := range []error{err, w.Prepare(changes), w.Publish(changes)} {
		if !errors.Is(err, vdcore.ErrUnsupported) {
			t.Errorf("a map that cannot change: %v", err)
		}
	}
	if !bytes.Equal(m.Bytes("/d/disk.img"), content) {
		t.Error("the file changed")
	}
}
