package vmdk

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const kib = 1024

// sparseFile writes data of 4 KiB at the given offsets of a file of holes.
func sparseFile(t *testing.T, path string, size int64, offs ...int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range offs {
		if _, err := f.WriteAt(stamp(int(off/512), 4*kib), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Blocks*512 >= size {
		t.Skip("no holes on this file system")
	}
}

// TestHoles: the holes of a flat file are zeros in the map, whatever the window;
// what takes no room is not called allocated.
func TestHoles(t *testing.T) {
	dir := t.TempDir()
	// a hole of 60 KiB before 128 KiB, which is too small to tell; an extent that
	// begins and ends inside units.
	sparseFile(t, filepath.Join(dir, "disk-flat.vmdk"), 4096*kib, 64*kib, 128*kib, 1000*kib)
	path := filepath.Join(dir, "disk.vmdk")
	lines := []string{`RW 8 ZERO`, `RW 8000 FLAT "disk-flat.vmdk" 8`, `RW 200 FLAT "disk-flat.vmdk" 8000`}
	if err := os.WriteFile(path, text("custom", lines...), 0o644); err != nil {
		t.Fatal(err)
	}
	img := openImage(t, path)
	size := img.Info().Capacity
	whole, err := img.Map(nil, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	// Up to 4004 KiB guest and file offsets are the same; the last extent begins
	// again at 4000 KiB of the file, and wants 4 KiB more than that has.
	want := []vdcore.Extent{
		{Off: 0, Len: 64 * kib, Kind: vdcore.Zero},
		{Off: 64 * kib, Len: 128 * kib, Kind: vdcore.Data, File: 1, Pos: 64 * kib},
		{Off: 192 * kib, Len: 768 * kib, Kind: vdcore.Zero},
		{Off: 960 * kib, Len: 64 * kib, Kind: vdcore.Data, File: 1, Pos: 960 * kib},
		{Off: 1024 * kib, Len: 3076 * kib, Kind: vdcore.Zero},
		{Off: 4100 * kib, Len: 4 * kib, Kind: vdcore.Lost},
	}
	if diff := cmp.Diff(want, whole); diff != "" {
		t.Fatal(diff)
	}
	for off := int64(0); off < size; off += 4 * kib {
		for _, n := range []int64{1, 4 * kib, 64 * kib, 100*kib + 1} {
			for _, e := range fuzzMap(t, img, off, min(n, size-off)) {
				if !within(whole, e) {
					t.Fatalf("%+v is not in the map of the whole", e)
				}
			}
		}
	}
	if a := img.Info().Allocated; a != 2*12*kib {
		t.Errorf("%d bytes allocated", a)
	}
}

// TestHolesFull: without holes there is one extent, and all of it is allocated.
func TestHolesFull(t *testing.T) {
	fs := files{"disk.vmdk": text("monolithicFlat", `RW 1000 FLAT "x" 3`), "x": stamp(0, 1003*512)}
	img := fs.must(t, "disk.vmdk")
	list, err := img.Map(nil, 512, 900*512)
	if diff := cmp.Diff([]vdcore.Extent{{Off: 512, Len: 900 * 512, Kind: vdcore.Data, File: 1, Pos: 4 * 512}}, list); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if a := img.Info().Allocated; a != 1000*512 {
		t.Errorf("%d bytes allocated", a)
	}
}

// TestFlatCutWhileOpen: mapping comes to an end, and what the file has lost never
// is zeros.
func TestFlatCutWhileOpen(t *testing.T) {
	const size = 4096 * kib
	for _, left := range []int64{0, 1, 60 * kib, 64 * kib, 100 * kib, 1024 * kib, size - 1} {
		dir := t.TempDir()
		data := filepath.Join(dir, "x")
		sparseFile(t, data, size, 256*kib, 2048*kib)
		path := filepath.Join(dir, "disk.vmdk")
		if err := os.WriteFile(path, text("monolithicFlat", `RW 8192 FLAT "x" 0`), 0o644); err != nil {
			t.Fatal(err)
		}
		img := openImage(t, path)
		if err := os.Truncate(data, left); err != nil {
			t.Fatal(err)
		}
		done := make(chan []vdcore.Extent, 1)
		go func() { done <- windowedMap(img, size) }()
		select {
		case list := <-done:
			checkCut(t, list, left, size)
		case <-time.After(10 * time.Second):
			t.Fatalf("cut to %d: the map does not end", left)
		}
	}
}

// windowedMap maps in windows of an odd size, joined.
func windowedMap(img vdcore.Image, size int64) (all []vdcore.Extent) {
	const window = 100*kib + 1
	for off := int64(0); off < size; off += window {
		list, err := img.Map(nil, off, min(window, size-off))
		if err != nil {
			return nil
		}
		for _, e := range list {
			all = vdcore.Append(all, e)
		}
	}
	return all
}

// checkCut: the map is complete, and lost from the new end of the file on.
func checkCut(t *testing.T, list []vdcore.Extent, left, size int64) {
	t.Helper()
	at := int64(0)
	for _, e := range list {
		if e.Off != at {
			t.Fatalf("cut to %d: %+v, want it at %d", left, e, at)
		}
		at = e.End()
		if e.Kind == vdcore.Lost && at < size || e.Kind != vdcore.Lost && at > left {
			t.Errorf("cut to %d: %+v", left, e)
		}
	}
	if at != size {
		t.Errorf("cut to %d: the map ends at %d", left, at)
	}
}

// oddFile answers questions for holes with whatever it is told to.
type oddFile struct {
	storage.File
	size, data, hole int64
}

func (f oddFile) Stat() (storage.Stat, error)   { return storage.Stat{Size: f.size}, nil }
func (f oddFile) NextData(int64) (int64, error) { return f.data, nil }
func (f oddFile) NextHole(int64) (int64, error) { return f.hole, nil }

// TestOddHoles: whatever a file system answers, a map is complete.
func TestOddHoles(t *testing.T) {
	const size = 1000 * kib
	answers := []int64{-1, 0, 1, 500 * kib, size - 1, size, size + 1, 1 << 40}
	for _, data := range answers {
		for _, hole := range answers {
			f := flat{guest: guest{4096, size}, file: oddFile{size: size, data: data, hole: hole}, pos: 512}.bound("x", storage.Stat{Size: size})
			list, err := f.mapTo(nil, 4096, 4096+size)
			if err != nil {
				t.Fatal(err)
			}
			at := int64(4096)
			for _, e := range list {
				if e.Off != at || e.Len <= 0 || e.Kind == vdcore.Data && e.Pos != e.Off-4096+512 {
					t.Fatalf("%d, %d: %+v, want it at %d", data, hole, e, at)
				}
				at = e.End()
			}
			if at != 4096+size {
				t.Errorf("%d, %d: the map ends at %d", data, hole, at)
			}
		}
	}
}
