package fs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
)

const fakeUnit = 64 << 10

// fakeWriter is a fake image that is written: units have a place in the file, and
// the table is the header.
type fakeWriter struct {
	*fakeImage
	free     []int64
	end      int64 // of the last place
	finished *atomic.Bool
}

// fakeFinished says of the image opened last for writing whether it was finished.
var fakeFinished atomic.Pointer[atomic.Bool]

func newFakeWriter(f *fakeImage) (*fakeWriter, error) {
	st, err := f.file.Stat()
	w := &fakeWriter{fakeImage: f, end: st.Size, finished: new(atomic.Bool)}
	fakeFinished.Store(w.finished)
	return w, err
}

func (w *fakeWriter) Unit(off int64) vdcore.Unit {
	off -= off % fakeUnit
	return vdcore.Unit{Off: off, Len: min(fakeUnit, w.Capacity-off)}
}

func (w *fakeWriter) Can(vdcore.Kind) bool { return true }
func (w *fakeWriter) Begin(bool) error     { return nil }

func (w *fakeWriter) Finish() error {
	w.finished.Store(true)
	return nil
}

func (w *fakeWriter) Reserve(vdcore.Unit) (vdcore.Place, error) {
	if n := len(w.free) - 1; n >= 0 {
		pos := w.free[n]
		w.free = w.free[:n]
		return vdcore.Place{Pos: pos}, nil
	}
	w.end += fakeUnit
	return vdcore.Place{Pos: w.end - fakeUnit}, nil
}

func (w *fakeWriter) Release(p vdcore.Place) { w.free = append(w.free, p.Pos) }

func (w *fakeWriter) Prepare([]vdcore.Change) error { return w.file.Truncate(w.end) }

func (w *fakeWriter) Publish(changes []vdcore.Change) error {
	for _, c := range changes {
		w.set(vdcore.Extent{Off: c.Unit.Off, Len: c.Unit.Len, Kind: c.Kind, Pos: c.Place.Pos})
	}
	head, err := json.Marshal(w.fakeHeader)
	if err != nil {
		return err
	}
	_, err = w.file.WriteAt(append(head, bytes.Repeat([]byte{0}, fakeData-len(head))...), 0)
	return err
}

// set puts one extent in the place of what was there.
func (w *fakeWriter) set(e vdcore.Extent) {
	list := []vdcore.Extent{e}
	for _, old := range w.Extents {
		if old.Off < e.Off {
			list = append(list, old.Clip(old.Off, min(e.Off, old.End())))
		}
		if old.End() > e.End() {
			list = append(list, old.Clip(max(e.End(), old.Off), old.End()))
		}
	}
	slices.SortFunc(list, func(a, b vdcore.Extent) int { return cmp.Compare(a.Off, b.Off) })
	w.Extents = list
}

// openWritable opens a chain of two layers for writing, whose top holds nothing yet.
func openWritable(t *testing.T) *vdcore.Chain {
	t.Helper()
	dir := t.TempDir()
	base := fakeHeader{UUID: uuid.New(), Capacity: diskSize, Extents: []vdcore.Extent{
		{Off: dataStart, Len: dataLength, Kind: vdcore.Data, Pos: fakeData},
	}}
	writeFake(t, filepath.Join(dir, "base.fake"), base, diskData(0))
	top := filepath.Join(dir, "top.fake")
	writeFake(t, top, fakeHeader{UUID: uuid.New(), Parent: base.UUID, Capacity: diskSize}, nil)
	if err := os.Chmod(top, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := vdcore.Open(top, vdcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
