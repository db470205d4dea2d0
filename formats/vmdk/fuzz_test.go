package vmdk

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// sentinel reports whether an error wraps one of vdcore's words.
func sentinel(err error) bool {
	for _, s := range []error{vdcore.ErrFormat, vdcore.ErrUnsupported, vdcore.ErrCorrupt, vdcore.ErrMissing, vdcore.ErrOutside, vdcore.ErrNotRegular} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// FuzzDescriptor: any text is refused with a reason or gives a disk whose size is
// the sum of its extents.
func FuzzDescriptor(f *testing.F) {
	f.Add(text("monolithicFlat", `RW 16384 FLAT "disk-flat.vmdk" 0`))
	f.Add(text("custom", "RW 8 ZERO", `NOACCESS 4 FLAT "x" 3`, `RDONLY 9 VMFS y`, `RW 1 SESPARSE "z"`))
	f.Add([]byte("\xef\xbb\xbf#disk descriptor file\r\nCID = fffffffe\r\nddb.comment=\"a\\\\b\"\r\nRW 1 ZERO\r\nddb.uuid.parent=\"2fb1f58c-2421-4dca-a3c7-027129786a3f\"\x00junk"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDescriptor(b)
		var info vdcore.Info
		if err == nil {
			info, err = d.info()
		}
		if err != nil {
			if !sentinel(err) {
				t.Fatalf("no sentinel: %v", err)
			}
			return
		}
		sum := int64(0)
		for _, e := range d.Extents {
			if e.Sectors <= 0 || e.Offset < 0 {
				t.Fatalf("%+v", e)
			}
			sum += e.bytes()
		}
		if sum != info.Capacity || sum <= 0 {
			t.Fatalf("capacity %d, extents of %d", info.Capacity, sum)
		}
		for _, s := range d.Settings {
			if string(b[s.at:][:len(s.Value)]) != s.Value {
				t.Fatalf("%s: no %q at %d", s.Key, s.Value, s.at)
			}
		}
		if _, err := json.Marshal(d); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzOpen opens whole files: a named one, and one more the descriptor may call
// x. What opens must have a consistent map, however it is asked.
func FuzzOpen(f *testing.F) {
	tiny := small()
	f.Add(tiny.bytes(), []byte(nil), uint32(4096), uint32(9000))
	tiny.packed, tiny.footer = true, true
	f.Add(tiny.bytes(), []byte(nil), uint32(0), uint32(1))
	f.Add(text("vmfsSparse", `RW 6 VMFSSPARSE "x"`, "RW 7 ZERO"), cowd(6, 2, []int{0, free, 1}), uint32(512), uint32(512))
	f.Add(text("seSparse", `RW 24 SESPARSE "x"`), se(24, []int{0, zero, 1}), uint32(1), uint32(3))
	f.Add(text("custom", `RW 8 FLAT "x" 1`, `NOACCESS 3 ZERO`, `RDONLY 31 SPARSE "x"`), small().bytes(), uint32(7), uint32(77777))
	f.Fuzz(func(t *testing.T, disk, x []byte, off, n uint32) {
		if len(disk)+len(x) > 1<<20 {
			return
		}
		m := vdtest.NewMem()
		m.Put("/vm/disk.vmdk", disk)
		m.Put("/vm/x", x)
		file, err := m.Open("/vm/disk.vmdk", storage.ReadOnly)
		if err != nil {
			t.Fatal(err)
		}
		img, err := open(vdcore.OpenArgs{File: file, Path: "/vm/disk.vmdk", FS: m.Below("/vm"), Tables: vdcore.NewTables()})
		if err != nil {
			file.Close()
			if !sentinel(err) {
				t.Fatalf("no sentinel: %v", err)
			}
		} else {
			fuzzImage(t, img, int64(off), int64(n))
			if err := img.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if m.OpenFiles() != 0 {
			t.Fatal("files left open")
		}
	})
}

func fuzzImage(t *testing.T, img vdcore.Image, off, n int64) {
	size := img.Info().Capacity
	if _, err := json.Marshal(img.(vdcore.HeaderDumper).Header()); err != nil {
		t.Fatal(err)
	}
	if size > 1<<36 {
		size = 1 << 36
	}
	whole := fuzzMap(t, img, 0, size)
	off %= size
	part := fuzzMap(t, img, off, min(1+n, size-off))
	for _, e := range part { // each is a cut from the whole map
		if !within(whole, e) {
			t.Fatalf("%+v is not in the map of the whole", e)
		}
	}
	for _, p := range img.(*image).pieces { // the tables say what was kept of them
		if g, ok := p.(*grains); ok {
			g.knowsAll = false
		}
	}
	if read := fuzzMap(t, img, off, min(1+n, size-off)); !slices.Equal(read, part) {
		t.Fatalf("the tables say %+v, what was kept of them %+v", read, part)
	}
	for _, e := range whole[:min(len(whole), 64)] {
		if e.Kind == vdcore.Packed {
			if unit, err := img.(vdcore.Decoder).Decode(e, nil); err == nil && int64(len(unit)) < e.Skip+e.Len {
				t.Fatalf("%+v unpacks to %d bytes", e, len(unit))
			} else if err != nil && !errors.Is(err, vdcore.ErrCorrupt) {
				t.Fatal(err)
			}
		}
		if e.Kind == vdcore.Data {
			if err := flatten(io.Discard, []vdcore.Image{img}, e.Off, min(e.Len, 4096)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func within(whole []vdcore.Extent, e vdcore.Extent) bool {
	for _, w := range whole {
		if w.Off <= e.Off && e.End() <= w.End() {
			return w.Clip(e.Off, e.End()) == e
		}
	}
	return false
}

func fuzzMap(t *testing.T, img vdcore.Image, off, n int64) []vdcore.Extent {
	list, err := img.Map(nil, off, n)
	if err != nil {
		t.Fatal(err)
	}
	at := off
	for _, e := range list {
		if e.Off != at || e.Len <= 0 {
			t.Fatalf("%+v, want it at %d", e, at)
		}
		at = e.End()
		if e.Kind != vdcore.Data && e.Kind != vdcore.Packed {
			continue
		}
		st, err := img.Files()[e.File].Stat()
		if err != nil || e.Pos < 0 || e.Pos >= st.Size || e.Kind == vdcore.Data && e.Pos+e.Len > st.Size {
			t.Fatalf("%+v leads out of a file of %d bytes: %v", e, st.Size, err)
		}
	}
	if at != off+n {
		t.Fatalf("map of [%d,+%d) ends at %d", off, n, at)
	}
	return list
}

// FuzzDecode: a record of grain 2, 100 bytes before the end of the extent, gives
// exactly one grain or ErrCorrupt.
func FuzzDecode(f *testing.F) {
	const grain = 4096
	f.Add(packRecord(16, deflated(stamp(2, grain))))
	f.Add(packRecord(16, deflated(stamp(2, 100))))                                        // short
	f.Add(packRecord(16, deflated(make([]byte, 1<<20))))                                  // a bomb
	f.Add(packRecord(16, append(deflated(stamp(2, grain)), 'x')))                         // trailing garbage
	f.Add(packRecord(16, deflated(stamp(2, grain))[:40]))                                 // cut
	f.Add(packRecord(8, deflated(stamp(2, grain))))                                       // another grain's
	f.Add(append(make([]byte, 8), 0xFF, 0xFF, 0xFF, 0xFF))                                // 4 GiB
	f.Add(bytes.Repeat([]byte{0x10, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0x78, 0x9C}, 4000)) // longer than the first read
	f.Fuzz(func(t *testing.T, record []byte) {
		m := vdtest.NewMem()
		m.Put("/x", record)
		file, err := m.Open("/x", storage.ReadOnly)
		if err != nil {
			t.Fatal(err)
		}
		g := &grains{guest: guest{0, 2*grain + 100}, name: "x", file: file, length: int64(len(record)), grain: grain}
		unit, err := g.unpack(nil, 2*grain, 0)
		if err != nil && !errors.Is(err, vdcore.ErrCorrupt) {
			t.Fatal(err)
		}
		if err == nil && len(unit) != grain {
			t.Fatalf("%d bytes", len(unit))
		}
	})
}

// TestDecode pins what FuzzDecode's seeds come to.
func TestDecode(t *testing.T) {
	const grain = 4096
	noise := make([]byte, grain) // longer packed than as it is
	for i := range noise {
		noise[i] = byte(i * i * 7919 >> 3)
	}
	short := append(stamp(2, 100), make([]byte, grain-100)...)
	brief := packRecord(16, deflated(stamp(2, 100)))
	for _, c := range []struct {
		name   string
		record []byte
		want   []byte // nil: ErrCorrupt
		left   int64  // of the extent from the grain on, when it is the last one
	}{
		{"plain", packRecord(16, deflated(stamp(2, grain))), stamp(2, grain), 0},
		{"incompressible", packRecord(16, deflated(noise)), noise, 0},
		{"short, as the extent is", brief, short, 100},
		{"short, and needed less", brief, short, 99},
		{"short by a byte", brief, nil, 101},
		{"short in the middle", brief, nil, grain + 1},
		{"nothing", packRecord(16, deflated(nil)), nil, 1},
		{"bomb", packRecord(16, deflated(make([]byte, 1<<20))), nil, 0},
		{"one byte too many", packRecord(16, deflated(make([]byte, grain+1))), nil, 0},
		{"garbage behind", packRecord(16, append(deflated(stamp(2, grain)), 'x')), nil, 0},
		{"garbage behind a short one", packRecord(16, append(deflated(stamp(2, 100)), 'x')), nil, 0},
		{"cut", packRecord(16, deflated(stamp(2, grain))[:40]), nil, 0},
		{"checksum", packRecord(16, append(deflated(stamp(2, grain))[:50], 1, 2, 3, 4)), nil, 0},
		{"another grain's", packRecord(8, deflated(stamp(2, grain))), nil, 0},
		{"length 0", packRecord(16, nil), nil, 0},
		{"past the end", packRecord(16, deflated(stamp(2, grain)))[:30], nil, 0},
		{"no marker", []byte{16}, nil, 0},
	} {
		m := vdtest.NewMem()
		m.Put("/x", c.record)
		file, _ := m.Open("/x", storage.ReadOnly)
		g := &grains{name: "x", file: file, length: int64(len(c.record)), grain: grain}
		g.size = 2*grain + cmp.Or(c.left, grain)
		for range 2 { // a failure must not spoil the pooled reader
			unit, err := g.unpack(nil, 2*grain, 0)
			if c.want == nil && !errors.Is(err, vdcore.ErrCorrupt) || c.want != nil && (err != nil || !bytes.Equal(unit, c.want)) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// FuzzWrite: an image of any bytes is refused, or written without harm to itself.
func FuzzWrite(f *testing.F) {
	f.Add(small().bytes(), []byte(nil), uint64(1))
	f.Add(text("custom", `RW 8 FLAT "x" 1`, `RW 31 SPARSE "x"`), small().bytes(), uint64(3))
	f.Add(text("custom", `RW 31 SPARSE "x"`), small().bytes(), uint64(4))
	f.Fuzz(func(t *testing.T, disk, x []byte, seed uint64) {
		if len(disk)+len(x) > 1<<20 {
			return
		}
		vdtest.FuzzWrite(t, "vmdk", map[string][]byte{"/vm/disk.vmdk": disk, "/vm/x": x}, "/vm/disk.vmdk", seed)
	})
}
