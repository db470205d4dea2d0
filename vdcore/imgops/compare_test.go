package imgops

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/vdtest"
)

// plainDisk writes a sparse plain disk.
func plainDisk(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = f.Truncate(int64(len(content)))
	for at := 0; at < len(content); at += zeroUnit {
		if part := content[at:min(at+zeroUnit, len(content))]; !isZero(part) && err == nil {
			_, err = f.WriteAt(part, int64(at))
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// differing finds differences the slow way.
func differing(a, b []byte) (first int64, list []Range) {
	first = -1
	for len(a) < len(b) {
		a = append(a, 0)
	}
	for len(b) < len(a) {
		b = append(b, 0)
	}
	for at := 0; at < len(a); at += sectorSize {
		end := min(at+sectorSize, len(a))
		if bytes.Equal(a[at:end], b[at:end]) {
			continue
		}
		list = joinRange(list, Range{int64(at), int64(end - at)})
		if first < 0 {
			first = int64(at + mismatch(a[at:end], b[at:end]))
		}
	}
	return first, list
}

// TestCompare: sparse disks that differ here and there, of different sizes, compared
// with a byte for byte look at both.
func TestCompare(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		a := make([]byte, 3<<20+r.IntN(9000))
		for range 6 {
			at := r.IntN(len(a) - 70000)
			for i := range r.IntN(70000) {
				a[at+i] = byte(r.Uint32())
			}
		}
		b := append(bytes.Clone(a), make([]byte, r.IntN(2)*r.IntN(1<<20))...)
		for range r.IntN(4) {
			b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		}
		x, y := openImage(t, plainDisk(t, a)).Top(), openImage(t, plainDisk(t, b)).Top()
		first, ranges := differing(a, b)
		for range 2 { // both ways round
			got, err := Compare(t.Context(), x, y, true, nil)
			if err != nil || got.First != first || !slices.Equal(got.Ranges, ranges) || got.Longer != int64(len(b)-len(a)) {
				t.Errorf("seed %d: %+v, %v; want %d, %v", seed, got, err, first, ranges)
			}
			got, err = Compare(t.Context(), x, y, false, nil)
			if err != nil || got.First != first || len(got.Ranges) != min(1, len(ranges)) {
				t.Errorf("seed %d: the first: %+v, %v; want %d", seed, got, err, first)
			}
			x, y = y, x
		}
	}
}

func TestCompareStops(t *testing.T) {
	c := openGolden(t, goldenNamed(t, "demo.tar.gz"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := Compare(ctx, c.Top(), c.Disk(0), true, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestDiff: between any two states of the golden chains, what the maps tell covers what
// differs, and what is read is that exactly.
func TestDiff(t *testing.T) {
	for _, golden := range vdtest.Cases(t) {
		if len(golden.Layers) == 1 || golden.Layers[0].Capacity > largeDisk/2 {
			continue
		}
		t.Run(golden.Name(), func(t *testing.T) {
			c := openGolden(t, golden)
			for to := range c.Layers() {
				for from := range to {
					diffCase(t, c, from, to)
				}
			}
			if _, err := Diff(t.Context(), c, 0, 0, false, nil); err == nil {
				t.Error("a state differs from itself")
			}
		})
	}
}

// TestDiffShorterLayer: behind the end of a layer that is shorter than those around it
// the disk reads as zeros, whatever the base holds there.
func TestDiffShorterLayer(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, write bool) *vdcore.Chain {
		t.Helper()
		c, err := vdcore.Open(filepath.Join(dir, name), vdcore.Options{Write: write})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if err := Create(t.Context(), filepath.Join(dir, "base.vdi"), CreateOptions{Capacity: 4 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	base := open("base.vdi", true)
	_, err := base.Top().WriteAt(bytes.Repeat([]byte{7}, 4<<20), 0)
	if err = errors.Join(err, base.Close()); err != nil {
		t.Fatal(err)
	}
	for _, l := range []struct {
		name, on string
		size     int64
	}{{"mid.vdi", "base.vdi", 2 << 20}, {"top.vdi", "mid.vdi", 4 << 20}} {
		c := open(l.on, false)
		if err := errors.Join(Snapshot(c, filepath.Join(dir, l.name)), c.Close()); err != nil {
			t.Fatal(err)
		}
		if err := Resize(t.Context(), open(l.name, true), l.size, nil); err != nil {
			t.Fatal(err)
		}
	}
	c := open("top.vdi", false)
	defer c.Close()
	diffCase(t, c, 0, 2)
	diffCase(t, c, 1, 2)
}

func diffCase(t *testing.T, c *vdcore.Chain, from, to int) {
	t.Helper()
	a, b := make([]byte, c.Disk(from).Capacity()), make([]byte, c.Disk(to).Capacity())
	if err := errors.Join(readPadded(c.Disk(from), a, 0), readPadded(c.Disk(to), b, 0)); err != nil {
		t.Fatal(err)
	}
	_, want := differing(a, b)
	held, err := Diff(t.Context(), c, from, to, false, nil)
	if err != nil || !slices.Equal(intersect(want, held), want) {
		t.Errorf("%d to %d: held are %v, %v; %v differs", from, to, held, err, want)
	}
	got, err := Diff(t.Context(), c, from, to, true, nil)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d to %d: %v, %v; want %v", from, to, got, err, want)
	}
}

func TestUnion(t *testing.T) {
	a := []Range{{0, 10}, {20, 10}, {50, 5}}
	b := []Range{{5, 10}, {30, 2}, {40, 30}}
	if got := union(a, b); !slices.Equal(got, []Range{{0, 15}, {20, 12}, {40, 30}}) {
		t.Error(got)
	}
	if got := intersect(a, b); !slices.Equal(got, []Range{{5, 5}, {50, 5}}) {
		t.Error(got)
	}
}
