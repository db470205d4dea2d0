package vdtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Golden is one image of a backend with what it must show.
type Golden struct {
	Files    map[string][]byte // absolute path to content
	Open     string            // the image
	Capacity int64
	SHA256   string // of the flat content, from the tool that made the image
}

// Conform runs the conformance suite for a base image of the named backend.
func Conform(t *testing.T, backend string, g Golden) {
	t.Run("probe", func(t *testing.T) { g.probe(t, backend) })
	t.Run("info", func(t *testing.T) { g.info(t, backend) })
	t.Run("content", func(t *testing.T) { g.content(t, backend) })
	t.Run("map", func(t *testing.T) { g.windows(t, backend) })
	t.Run("parallel", func(t *testing.T) { g.parallel(t, backend) })
	t.Run("truncated", func(t *testing.T) { g.truncated(t, backend) })
}

// fs returns a fresh file system with the golden files.
func (g Golden) fs() *Mem {
	m := NewMem()
	for p, b := range g.Files {
		m.Put(p, b)
	}
	return m
}

// open opens the image with the backend and closes it with the test, which then
// must have no file open.
func (g Golden) open(t *testing.T, backend string, shallow bool) vdcore.Image {
	t.Helper()
	m := g.fs()
	img, err := openWith(m, backend, g.Open, shallow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := img.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if n := m.OpenFiles(); n != 0 {
			t.Errorf("%d files left open", n)
		}
	})
	return img
}

func openWith(m *Mem, backend, path string, shallow bool) (vdcore.Image, error) {
	b, err := vdcore.Lookup(backend)
	if err != nil {
		return nil, err
	}
	f, err := m.Open(path, storage.ReadOnly)
	if err != nil {
		return nil, err
	}
	img, err := b.Open(vdcore.OpenArgs{File: f, Path: path, FS: m.Below(filepath.Dir(path)), Tables: vdcore.NewTables(), Shallow: shallow})
	if err != nil {
		f.Close() // a failed Open leaves the file to its caller
		return nil, err
	}
	return img, nil
}

// probe: content decides, whatever the name; the probe changes nothing and
// survives any prefix.
func (g Golden) probe(t *testing.T, backend string) {
	f, err := g.fs().Open(g.Open, storage.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	s, err := vdcore.TakeSample(f)
	if err != nil {
		t.Fatal(err)
	}
	head := bytes.Clone(s.Head)
	if b, err := vdcore.Probe(s); err != nil || b.Name != backend {
		t.Errorf("probed as %q, %v", b.Name, err)
	}
	if !bytes.Equal(head, s.Head) {
		t.Error("the probe changed its sample")
	}
	b, _ := vdcore.Lookup(backend)
	want := b.Probe(s)
	s.Name = "renamed"
	if got := b.Probe(s); got != want {
		t.Errorf("scores %d under another name, %d under its own", got, want)
	}
	for n := 0; n <= len(head); n += 1 + n/8 {
		b.Probe(vdcore.Sample{Head: head[:n], Tail: head[:n], Size: int64(n), Name: s.Name})
	}
}

// info: a shallow open knows the same of identity, size and parent.
func (g Golden) info(t *testing.T, backend string) {
	full, shallow := g.open(t, backend, false).Info(), g.open(t, backend, true).Info()
	if full.Format != backend || full.Capacity != g.Capacity {
		t.Errorf("format %q of %d bytes, want %q of %d", full.Format, full.Capacity, backend, g.Capacity)
	}
	if len(full.Damage) != 0 {
		t.Errorf("a sound image is said to be damaged: %v", full.Damage)
	}
	if shallow.Identity != full.Identity || shallow.Capacity != full.Capacity || (shallow.Parent == nil) != (full.Parent == nil) {
		t.Errorf("shallow open says %+v, full %+v", shallow, full)
	}
	if full.Allocated < 0 || full.Allocated > full.Capacity {
		t.Errorf("%d of %d bytes allocated", full.Allocated, full.Capacity)
	}
}

// content: the contract's reads, put together, are the bytes the image was made of.
func (g Golden) content(t *testing.T, backend string) {
	img := g.open(t, backend, false)
	h := sha256.New()
	buf := make([]byte, 300<<10) // no multiple of any block
	for off := int64(0); off < g.Capacity; off += int64(len(buf)) {
		p := buf[:min(int64(len(buf)), g.Capacity-off)]
		if err := (Stack{img}).ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
		h.Write(p)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != g.SHA256 {
		t.Errorf("content %s, want %s", got, g.SHA256)
	}
}

// windows: whatever window is asked for, the answer covers it exactly, in order,
// joined, inside the files, and says the same as the map of the whole.
func (g Golden) windows(t *testing.T, backend string) {
	img := g.open(t, backend, false)
	whole, err := img.Map(nil, 0, g.Capacity)
	if err != nil {
		t.Fatal(err)
	}
	checkMap(t, img, whole, 0, g.Capacity)
	checkStored(t, img, whole)
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		off := r.Int64N(g.Capacity)
		n := 1 + r.Int64N(min(g.Capacity-off, 4<<20))
		part, err := img.Map(nil, off, n)
		if err != nil {
			t.Fatal(err)
		}
		checkMap(t, img, part, off, n)
		if want := clipMap(whole, off, off+n); !slices.Equal(part, want) {
			t.Fatalf("map of [%d,+%d) is %v, the whole map says %v", off, n, part, want)
		}
	}
	if extra, err := img.Map(whole[:1:1], 0, 1); err != nil || len(extra) < 1 || extra[0] != whole[0] {
		t.Errorf("Map does not append to what it is given: %v, %v", extra, err)
	}
}

// checkStored: what an image knows of itself is what its map says.
func checkStored(t *testing.T, img vdcore.Image, whole []vdcore.Extent) {
	c, ok := img.(vdcore.Counted)
	if !ok {
		return
	}
	n, ok := c.Stored()
	if !ok {
		return
	}
	for _, e := range whole {
		if e.Kind != vdcore.Free && e.Kind != vdcore.Zero {
			n -= e.Len
		}
	}
	if n != 0 {
		t.Errorf("holds %d bytes more than its map says", n)
	}
}

func clipMap(whole []vdcore.Extent, off, end int64) []vdcore.Extent {
	var part []vdcore.Extent
	for _, e := range whole {
		if e.Off < end && off < e.End() {
			part = vdcore.Append(part, e.Clip(off, end))
		}
	}
	return part
}

func checkMap(t *testing.T, img vdcore.Image, list []vdcore.Extent, off, n int64) {
	t.Helper()
	at := off
	for i, e := range list {
		if e.Off != at || e.Len <= 0 {
			t.Fatalf("extent %d of [%d,+%d) is %+v, want it to begin at %d", i, off, n, e, at)
		}
		at = e.End()
		if e.Kind != vdcore.Data && e.Kind != vdcore.Packed {
			continue
		}
		st, err := img.Files()[e.File].Stat()
		if err != nil {
			t.Fatal(err)
		}
		if e.Pos < 0 || e.Pos >= st.Size || e.Kind == vdcore.Data && e.Pos+e.Len > st.Size {
			t.Fatalf("extent %+v leads past the end of file %d at %d", e, e.File, st.Size)
		}
	}
	if at != off+n {
		t.Fatalf("the map of [%d,+%d) ends at %d", off, n, at)
	}
}

// parallel: many goroutines on one image, for the race detector.
func (g Golden) parallel(t *testing.T, backend string) {
	img := g.open(t, backend, false)
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(k)))
			buf := make([]byte, 96<<10)
			for range 20 {
				off := r.Int64N(g.Capacity)
				p := buf[:min(int64(len(buf)), g.Capacity-off)]
				if err := (Stack{img}).ReadAt(p, off); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// truncated: an image cut short refuses to open, or every byte it does give is
// the right one. Nothing becomes zeros, nothing panics, nothing stays open.
func (g Golden) truncated(t *testing.T, backend string) {
	flat := make([]byte, g.Capacity)
	if err := (Stack{g.open(t, backend, false)}).ReadAt(flat, 0); err != nil {
		t.Fatal(err)
	}
	for path, full := range g.Files {
		if path != g.Open && !g.part(path) {
			continue
		}
		for _, size := range cuts(len(full)) {
			m := g.fs()
			m.Put(path, full[:size])
			img, err := openWith(m, backend, g.Open, false)
			if err != nil {
				if !known(err) {
					t.Errorf("%s cut to %d: error without a sentinel: %v", filepath.Base(path), size, err)
				}
				continue
			}
			compareReadable(t, img, flat, filepath.Base(path), size)
			img.Close()
			if n := m.OpenFiles(); n != 0 {
				t.Errorf("%s cut to %d: %d files left open", filepath.Base(path), size, n)
			}
		}
	}
}

// part reports whether a file belongs to the image, by VMDK's naming: the archive
// may hold the rest of a chain too.
func (g Golden) part(path string) bool {
	stem := strings.TrimSuffix(g.Open, filepath.Ext(g.Open))
	return strings.HasPrefix(path, stem+"-")
}

// cuts are the sizes worth trying: around the metadata, and some further on.
func cuts(size int) []int {
	var list []int
	for _, n := range []int{0, 1, 63, 64, 68, 72, 200, 511, 512, 513, 1024, 1536, 2048, 4096, 65536, size / 3, size / 2, size - 65536, size - 4096, size - 1536, size - 1024, size - 513, size - 512, size - 1} {
		if n >= 0 && n < size {
			list = append(list, n)
		}
	}
	return list
}

func known(err error) bool {
	for _, s := range []error{vdcore.ErrFormat, vdcore.ErrUnsupported, vdcore.ErrCorrupt, vdcore.ErrMissing, vdcore.ErrOutside, vdcore.ErrNotRegular} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// compareReadable reads what a cut image still gives, sector by sector where a
// larger read fails.
func compareReadable(t *testing.T, img vdcore.Image, flat []byte, name string, size int) {
	t.Helper()
	if c := img.Info().Capacity; c > int64(len(flat)) {
		t.Errorf("%s cut to %d: shows %d bytes, the sound image has %d", name, size, c, len(flat))
		return
	}
	const step = 64 << 10
	buf := make([]byte, step)
	for off := int64(0); off < img.Info().Capacity; off += step {
		p := buf[:min(step, img.Info().Capacity-off)]
		if err := (Stack{img}).ReadAt(p, off); err != nil {
			continue
		}
		if !bytes.Equal(p, flat[off:off+int64(len(p))]) {
			t.Errorf("%s cut to %d: wrong bytes in [%d,+%d)", name, size, off, len(p))
			return
		}
	}
}
