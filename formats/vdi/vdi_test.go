package vdi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

func TestConform(t *testing.T) {
	for name, g := range vdtest.Bases(t, ".vdi") {
		t.Run(name, func(t *testing.T) { vdtest.Conform(t, "vdi", g) })
	}
}

// small is a sound image of 2 MiB in four blocks: data, zero, free, data.
func small() *vdtest.VDI {
	r := rand.New(rand.NewPCG(1, 1))
	return &vdtest.VDI{
		Capacity: 2 << 20, BlockSize: 512 << 10, ID: vdtest.RandomUUID(r), Mod: vdtest.RandomUUID(r),
		Map:   []uint32{1, vdtest.VDIZero, vdtest.VDIFree, 0},
		Slots: [][]byte{bytes.Repeat([]byte{0xAA}, 512<<10), bytes.Repeat([]byte{0xBB}, 512<<10)},
	}
}

func openBytes(b []byte) (vdcore.Image, error) {
	m := vdtest.NewMem()
	m.Put("/a.vdi", b)
	f, err := m.Open("/a.vdi", storage.ReadOnly)
	if err != nil {
		return nil, err
	}
	return open(vdcore.OpenArgs{File: f, Path: "/a.vdi", FS: m, Tables: vdcore.NewTables()})
}

func TestKinds(t *testing.T) {
	img, err := openBytes(small().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	const block = 512 << 10
	data := int64(1024) // behind header and map
	got, err := img.Map(nil, 100, 2<<20-100)
	want := []vdcore.Extent{
		{Off: 100, Len: block - 100, Kind: vdcore.Data, Pos: data + block + 100},
		{Off: block, Len: block, Kind: vdcore.Zero},
		{Off: 2 * block, Len: block},
		{Off: 3 * block, Len: block, Kind: vdcore.Data, Pos: data},
	}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("extent %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if a := img.Info().Allocated; a != 2*block {
		t.Errorf("%d bytes allocated", a)
	}
}

// TestHeaderRules changes one field of a sound image at a time.
func TestHeaderRules(t *testing.T) {
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
	}
	put64 := func(at int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[at:], v); return b }
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		err    error
		word   string
	}{
		{"version 1.0", put32(68, 0x00010000), nil, ""},
		{"version 2", put32(68, 0x00020000), vdcore.ErrUnsupported, "version 2.0"},
		{"version 0.1", put32(68, 1), vdcore.ErrUnsupported, "version 0.1"},
		{"signature", put32(64, 0), vdcore.ErrFormat, "signature"},
		{"header 384", put32(72, 384), nil, ""},
		{"header 383", put32(72, 383), vdcore.ErrCorrupt, "header size"},
		{"undo", put32(76, 3), vdcore.ErrUnsupported, "type 3"},
		{"type 0", put32(76, 0), vdcore.ErrUnsupported, "type 0"},
		{"zero-expand", put32(80, 1), nil, ""},
		{"flag 2", put32(80, 2), vdcore.ErrUnsupported, "flags"},
		{"block 0", put32(376, 0), vdcore.ErrCorrupt, "block size"},
		{"block odd", put32(376, 512<<10+512), vdcore.ErrCorrupt, "block size"},
		{"block 64 KiB", put32(376, 64<<10), vdcore.ErrCorrupt, "block size"},
		{"block 256 MiB", put32(376, 256<<20), vdcore.ErrCorrupt, "block size"},
		{"extra odd", put32(380, 513), vdcore.ErrCorrupt, "extra"},
		{"no blocks", put32(384, 0), vdcore.ErrCorrupt, "block count"},
		{"a block too few", put32(384, 3), vdcore.ErrCorrupt, "block count"},
		{"4 Gi blocks", put32(384, 0xFFFFFFFF), vdcore.ErrCorrupt, "overlaps the block map"},
		{"size 0", put64(368, 0), vdcore.ErrCorrupt, "disk size"},
		{"size 2^60", put64(368, 1<<60), vdcore.ErrCorrupt, "block count"},
		{"size all ones", put64(368, 1<<64-1), vdcore.ErrCorrupt, "block count"},
		{"map in header", put32(340, 72), vdcore.ErrCorrupt, "overlaps the header"},
		{"data in map", put32(344, 512), vdcore.ErrCorrupt, "overlaps the block map"},
		{"map past the end", func(b []byte) []byte { return put32(344, 1<<31)(put32(340, 1<<30)(b)) }, vdcore.ErrCorrupt, "past the end of the file"},
		{"null UUID", func(b []byte) []byte { clear(b[392:408]); return b }, vdcore.ErrCorrupt, "UUID"},
		{"cut in the header", func(b []byte) []byte { return b[:300] }, vdcore.ErrCorrupt, "ends inside the header"},
		{"cut in the map", func(b []byte) []byte { return b[:520] }, vdcore.ErrCorrupt, "block map"},
	} {
		_, err := openBytes(c.change(small().Bytes()))
		if !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v; want %v naming %q", c.name, err, c.err, c.word)
		}
	}
}

func TestDamage(t *testing.T) {
	const block = 512 << 10
	v := small()
	v.Map = []uint32{0, 7, vdtest.VDIFree, 1}
	whole := v.Bytes()
	img, err := openBytes(whole[:len(whole)-1000]) // slot 7 does not exist, slot 1 is torn
	if err != nil {
		t.Fatal(err)
	}
	d := img.Info().Damage
	if len(d) != 2 || d[0].Off != block || d[0].Len != block || d[1].Off != 4*block-1000 || d[1].Len != 1000 {
		t.Fatalf("damage %+v", d)
	}
	list, err := img.Map(nil, 0, 2<<20)
	if err != nil || len(list) != 5 || list[1].Kind != vdcore.Lost || list[3].Kind != vdcore.Data || list[4] != (vdcore.Extent{Off: 4*block - 1000, Len: 1000, Kind: vdcore.Lost}) {
		t.Errorf("map %+v, %v", list, err)
	}
}

func TestWarnings(t *testing.T) {
	shared := small()
	shared.Map = []uint32{0, 0, vdtest.VDIFree, 1}
	odd := small()
	odd.Capacity = 2<<20 - 100
	more := small()
	more.Map = append(more.Map, vdtest.VDIFree)
	sector := small().Bytes()
	binary.LittleEndian.PutUint32(sector[468:], 4096)
	for name, c := range map[string]struct {
		image []byte
		word  string
		size  int64
	}{
		"shared slot": {shared.Bytes(), "duplicate block map entry", 2 << 20},
		"odd size":    {odd.Bytes(), "rounded down", 2<<20 - 512},
		"more blocks": {more.Bytes(), "block count", 2 << 20},
		"sector size": {sector, "sector size", 2 << 20},
	} {
		img, err := openBytes(c.image)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if w := strings.Join(img.Info().Warnings, "; "); !strings.Contains(w, c.word) {
			t.Errorf("%s: warnings %q", name, w)
		}
		if img.Info().Capacity != c.size {
			t.Errorf("%s: %d bytes", name, img.Info().Capacity)
		}
	}
}

// TestHoleInMap: a map that is a hole of the file is slot 0 all over; looking at it
// takes no time, however long it says it is.
func TestHoleInMap(t *testing.T) {
	dir, err := storage.Resolve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const blocks = 1 << 29
	head := small().Bytes()[:512]
	binary.LittleEndian.PutUint32(head[384:], blocks)
	binary.LittleEndian.PutUint64(head[368:], blocks*512<<10)
	p := filepath.Join(dir, "a.vdi")
	binary.LittleEndian.PutUint32(head[344:], 0xFFFFF000)
	if err := errors.Join(os.WriteFile(p, head, 0o600), os.Truncate(p, 3<<30)); err != nil {
		t.Fatal(err)
	}
	_, err = vdcore.Open(p, vdcore.Options{})
	if !errors.Is(err, vdcore.ErrCorrupt) || !strings.Contains(err.Error(), "past the end") {
		t.Error(err)
	}
	if err := os.Truncate(p, 5<<30); err != nil {
		t.Fatal(err)
	}
	c, err := vdcore.Open(p, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if w := strings.Join(c.Warnings(), ""); !strings.Contains(w, "duplicate") {
		t.Errorf("warnings %q", w)
	}
}

// FuzzOpen: whatever the bytes, an image opens or says why not, and its map stays
// inside the file.
func FuzzOpen(f *testing.F) {
	whole := small().Bytes()
	f.Add(whole[:1024])
	v0 := bytes.Clone(whole[:2048])
	binary.LittleEndian.PutUint32(v0[68:], 2)
	f.Add(v0)
	extra := small()
	extra.BlockExtra = 512
	f.Add(extra.Bytes()[:4096])
	for at := 64; at < 472; at += 4 {
		b := bytes.Clone(whole[:1024])
		binary.LittleEndian.PutUint32(b[at:], 0xFFFFFFFF)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := openBytes(b)
		if err != nil {
			return
		}
		defer img.Close()
		capacity := img.Info().Capacity
		for _, off := range []int64{0, capacity / 2, capacity - 1} {
			list, err := img.Map(nil, off, min(capacity-off, 1<<30))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				if e.Kind == vdcore.Data && (e.Pos < 0 || e.Pos+e.Len > int64(len(b))) {
					t.Fatalf("%+v leads out of a file of %d bytes", e, len(b))
				}
			}
		}
	})
}
