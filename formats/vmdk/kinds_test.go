package vmdk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vdfs/vdcore"
	"vdfs/vdcore/vdtest"
)

// TestConform runs the suite every backend must pass.
func TestConform(t *testing.T) {
	for _, c := range []struct{ name, file string }{
		{"vmdk-cowd", "disk.vmdk"}, {"vmdk-xmount", "flat.vmdk"}, {"vmdk-qemu-zeroed-grain", "disk.vmdk"},
		{"vmdk-vbox-stream", "disk.vmdk"}, {"vmdk-qemu-stream", "disk.vmdk"},
		{"vmdk-qemu-chain3", "base.vmdk"}, {"vmdk-vbox-diff4", "base.vmdk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			vdtest.Conform(t, "vmdk", goldenOf(t, "testdata/good/"+c.name, c.file))
		})
	}
}

func goldenOf(t *testing.T, dir, file string) vdtest.Golden {
	var c goldenCase
	readJSON(t, filepath.Join(dir, "case.json"), &c)
	g := vdtest.Golden{Files: map[string][]byte{}, Open: "/vm/" + file}
	for _, l := range c.Layers {
		if l.File == file {
			g.Capacity, g.SHA256 = l.Capacity, l.SHA256
		}
	}
	from := unpack(t, dir)
	names, err := filepath.Glob(filepath.Join(from, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		g.Files["/vm/"+filepath.Base(n)] = b
	}
	return g
}

// scattered places grains at random: some free, some zero, the rest in any order.
func scattered(r *rand.Rand, n int, kinds ...int) []int {
	grains := make([]int, n)
	for i := range grains {
		grains[i] = free
	}
	for place, i := range r.Perm(n)[:n/2] {
		grains[i] = place
	}
	for i := range grains {
		if grains[i] == free {
			grains[i] = kinds[r.IntN(len(kinds))]
		}
	}
	return grains
}

// built are images made by the builders, with their content.
func built() map[string]struct {
	files files
	flat  []byte
} {
	r := rand.New(rand.NewPCG(7, 7))
	set := map[string]struct {
		files files
		flat  []byte
	}{}
	add := func(name string, flat []byte, fs files) {
		set[name] = struct {
			files files
			flat  []byte
		}{fs, flat}
	}
	h := hosted{capacity: 700*8 - 3, grain: 8, grains: scattered(r, 700, free, zero)}
	h.desc = text("monolithicSparse", fmt.Sprintf(`RW %d SPARSE "disk.vmdk"`, h.capacity))
	add("hosted", h.flat(), files{"disk.vmdk": h.bytes()})
	h = hosted{capacity: 600*16 - 5, grain: 16, grains: scattered(r, 600, free, zero), packed: true, footer: true}
	h.desc = text("streamOptimized", fmt.Sprintf(`RDONLY %d SPARSE "disk.vmdk"`, h.capacity))
	add("stream", h.flat(), files{"disk.vmdk": h.bytes()})
	g := scattered(r, 5000, free)
	add("cowd", flatOf(5000*2*512-512, 1024, g), files{
		"disk.vmdk":       text("vmfsSparse", `RW 9999 VMFSSPARSE "disk-delta.vmdk"`),
		"disk-delta.vmdk": cowd(9999, 2, g),
	})
	g = scattered(r, 5000, free, zero, seUnmapped)
	add("sesparse", flatOf(5000*4096, 4096, g), files{
		"disk.vmdk":          text("seSparse", `RW 40000 SESPARSE "disk-sesparse.vmdk"`),
		"disk-sesparse.vmdk": se(40000, g),
	})
	return set
}

// TestBuilt reads images of every kind with tables that no tool would write so
// irregularly.
func TestBuilt(t *testing.T) {
	for name, b := range built() {
		t.Run(name, func(t *testing.T) {
			img := b.files.must(t, "disk.vmdk")
			if w := img.Info().Warnings; len(w) > 0 {
				t.Errorf("warnings: %q", w)
			}
			if !bytes.Equal(content(t, img), b.flat) {
				t.Error("wrong content")
			}
			if _, err := json.Marshal(img.(vdcore.HeaderDumper).Header()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBuiltAgainstQEMU has QEMU read the same files: the builders and the reader
// could share a misunderstanding, QEMU does not.
func TestBuiltAgainstQEMU(t *testing.T) {
	qemu, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("qemu-img is not installed; only our own builder was read back")
	}
	for name, b := range built() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for n, data := range b.files {
				if err := os.WriteFile(filepath.Join(dir, n), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, "disk.vmdk")
			raw := filepath.Join(dir, "raw")
			if out, err := exec.Command(qemu, "convert", "-f", "vmdk", "-O", "raw", path, raw).CombinedOutput(); err != nil {
				t.Fatalf("qemu-img convert: %v: %s", err, out)
			}
			flat, err := os.ReadFile(raw)
			if err != nil {
				t.Fatal(err)
			}
			flat = flat[:min(len(flat), len(b.flat))] // by the header: whole grains
			if !bytes.Equal(flat, b.flat) {
				t.Error("QEMU reads other bytes")
			}
			compareMaps(t, qemu, path)
		})
	}
}

// place is a run of guest bytes and where it lies in its file.
type place struct{ Start, Length, Offset int64 }

// compareMaps compares where QEMU and we find the data.
func compareMaps(t *testing.T, qemu, path string) {
	t.Helper()
	out, err := exec.Command(qemu, "map", "-f", "vmdk", "--output=json", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var theirs []struct {
		Start, Length int64
		Data          bool
		Offset        *int64
	}
	if err := json.Unmarshal(out, &theirs); err != nil {
		t.Fatal(err)
	}
	img := openImage(t, path)
	size := img.Info().Capacity
	var want, got []place
	for _, e := range theirs {
		if e.Data && e.Offset != nil && e.Start < size {
			want = join(want, place{e.Start, min(e.Length, size-e.Start), *e.Offset})
		}
	}
	extents, err := img.Map(nil, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		if e.Kind == vdcore.Data {
			got = join(got, place{e.Off, e.Len, e.Pos})
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("QEMU's map (-) and ours (+):\n%s", diff)
	}
}

func join(list []place, p place) []place {
	if n := len(list); n > 0 {
		last := &list[n-1]
		if last.Start+last.Length == p.Start && last.Offset+last.Length == p.Offset {
			last.Length += p.Length
			return list
		}
	}
	return append(list, p)
}

// TestMixed: ZERO, RDONLY and NOACCESS lines and a missing file keep their places,
// so that nothing behind them shifts.
func TestMixed(t *testing.T) {
	h := hosted{capacity: 16, grain: 8, grains: []int{0, free}}
	fs := files{
		"disk.vmdk": text("custom", `RW 8 FLAT "a.raw" 8`, `RW 4 ZERO`, `RDONLY 8 SPARSE "b.vmdk"`,
			`NOACCESS 2 FLAT "/dev/mem" 0`, `RW 8 VMFS "gone.raw"`, `RW 8 FLAT "a.raw" 4`, `RW 8 FLAT short.raw 0`),
		"a.raw":     stamp(1, 16*512),
		"b.vmdk":    h.bytes(),
		"short.raw": stamp(2, 1000),
	}
	img, err := fs.open(t, "disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	got, err := img.Map(nil, 0, img.Info().Capacity)
	if err != nil {
		t.Fatal(err)
	}
	grain := int64(bytes.Index(fs["b.vmdk"], stamp(0, 64)))
	want := []vdcore.Extent{
		{Off: 0, Len: 4096, Kind: vdcore.Data, File: 1, Pos: 4096},
		{Off: 4096, Len: 2048, Kind: vdcore.Zero},
		{Off: 6144, Len: 4096, Kind: vdcore.Data, File: 2, Pos: grain},
		{Off: 10240, Len: 5120, Kind: vdcore.Lost},
		{Off: 15360, Len: 4096, Kind: vdcore.Data, File: 1, Pos: 2048},
		{Off: 19456, Len: 1000, Kind: vdcore.Data, File: 3},
		{Off: 20456, Len: 3096, Kind: vdcore.Lost},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var damage []string
	for _, d := range img.Info().Damage {
		damage = append(damage, fmt.Sprintf("%d+%d %v", d.Off, d.Len, d.Err))
	}
	if diff := cmp.Diff([]string{
		`10240+1024 extent "/dev/mem" may not be read (NOACCESS): not supported`,
		`11264+4096 extent file missing (gone.raw); looked in /vm`,
		`20456+3096 extent file shorter than its extent: short.raw has 1000 bytes, 4096 are needed: damaged`,
	}, damage); diff != "" {
		t.Error(diff)
	}
	if n := img.Info().Allocated; n != 4096+4096+4096+1000 {
		t.Errorf("%d bytes allocated", n)
	}
}
