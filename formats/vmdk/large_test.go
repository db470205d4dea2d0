package vmdk

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"vdfs/vdcore"
)

// writeLarge makes a monolithicSparse image of 2 TiB with all its tables in
// place, as QEMU and VirtualBox do: holes when the disk is empty, or every grain
// behind the one before it.
func writeLarge(t testing.TB, full bool) string {
	t.Helper()
	const tables = 1 << 16
	const dirSectors, tableSectors = tables * 4 / 512, tables * 4
	h := hosted{capacity: 1 << 32, grain: 128, desc: text("monolithicSparse", `RW 4294967296 SPARSE "large.vmdk"`)}
	b := h.bytes()[:21*512] // header and descriptor
	le := binary.LittleEndian
	rgd, gd := 21, 21+dirSectors+tableSectors
	le.PutUint64(b[48:], uint64(rgd))
	le.PutUint64(b[56:], uint64(gd))
	path := filepath.Join(t.TempDir(), "large.vmdk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put := func(b []byte, sector int) {
		if _, err := f.WriteAt(b, int64(sector)*512); err != nil {
			t.Fatal(err)
		}
	}
	put(b, 0)
	for _, dir := range []int{rgd, gd} {
		entries := make([]byte, tables*4)
		for i := range tables {
			le.PutUint32(entries[i*4:], uint32(dir+dirSectors+i*4))
		}
		put(entries, dir)
	}
	end := gd + dirSectors + tableSectors
	size := int64(end) * 512
	if full {
		size = fill(put, gd+dirSectors, end)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// fill writes tables at a sector whose entries lead to grains from end on, as
// many as 32 bits can name, and returns the size of the file.
func fill(put func([]byte, int), at, end int) int64 {
	table := make([]byte, 2048)
	grain := uint64(end)
	for range 1 << 16 {
		for i := range 512 {
			if grain+128 > 1<<32 {
				return int64(grain) * 512
			}
			binary.LittleEndian.PutUint32(table[i*4:], uint32(grain))
			grain += 128
		}
		put(table, at)
		at += 4
	}
	return int64(grain) * 512
}

// TestLargeEmpty: the tables of an empty disk cost nothing, at open or later.
func TestLargeEmpty(t *testing.T) {
	path := writeLarge(t, false)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	img := openImage(t, path)
	list, err := img.Map(nil, 0, img.Info().Capacity)
	runtime.ReadMemStats(&after)
	if err != nil || len(list) != 1 || list[0] != (vdcore.Extent{Len: 1 << 41}) {
		t.Errorf("%v, %v", list, err)
	}
	if b := after.TotalAlloc - before.TotalAlloc; b > 16<<20 {
		t.Errorf("took %d bytes", b) // 1 MiB
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(fmt.Sprintf("full=%v", full), func(b *testing.B) {
			path := writeLarge(b, full)
			for b.Loop() {
				img, err := openPath(path, false)
				if err != nil {
					b.Fatal(err)
				}
				img.Close()
			}
		})
	}
}

func BenchmarkMap(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(fmt.Sprintf("full=%v", full), func(b *testing.B) {
			img, err := openPath(writeLarge(b, full), false)
			if err != nil {
				b.Fatal(err)
			}
			defer img.Close()
			for b.Loop() {
				if _, err := img.Map(nil, 0, img.Info().Capacity); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestManyPieces: a set of far more files than there may be descriptors for.
func TestManyPieces(t *testing.T) {
	dir := t.TempDir()
	var lines []string
	for i := range 1500 {
		name := fmt.Sprintf("disk-f%03d.vmdk", i+1)
		lines = append(lines, fmt.Sprintf(`RW 1 FLAT "%s" 0`, name))
		if err := os.WriteFile(filepath.Join(dir, name), stamp(i, 512), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "disk.vmdk")
	if err := os.WriteFile(path, text("twoGbMaxExtentFlat", lines...), 0o644); err != nil {
		t.Fatal(err)
	}
	img := openImage(t, path)
	got := content(t, img)
	for i := range 1500 {
		if string(got[i*512:][:512]) != string(stamp(i, 512)) {
			t.Fatalf("wrong bytes in piece %d", i)
		}
	}
}
