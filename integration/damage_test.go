package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"vdfs/vdcore/vdtest"
)

// TestDamagedChains takes golden chains apart, and looks at what every door shows of the
// rest: each byte that can be read is the one the tools wrote, the others are I/O errors
// and never zeros, and mount, map, info and picture agree about which are which.
func TestDamagedChains(t *testing.T) {
	for _, c := range []struct {
		name, archive, top string
		damage             func(dir string) error
		code               int
		whole              []string // lower states that lack nothing
	}{
		{"VDI base missing", "demo.tar.gz", "updated.vdi", gone("base.vdi"), 3, nil},
		{"VDI middle missing", "demo.tar.gz", "updated.vdi", gone("configured.vdi"), 3, nil},
		{"VDI base cut", "demo.tar.gz", "updated.vdi", cut("base.vdi", 2<<20+1000), 4, nil},
		{"VMDK middle cut", "vmdk-diff3.tar.gz", "diff2.vmdk", cut("diff1.vmdk", 200000), 4, []string{"base"}},
		{"VDI base without a map", "demo.tar.gz", "updated.vdi", cut("base.vdi", 1000), 3, nil},
		{"VMDK base missing", "vmdk-diff3.tar.gz", "diff2.vmdk", gone("base.vmdk"), 3, nil},
		{"VMDK by CID, base missing", "vmdk-qemu-chain.tar.gz", "top.vmdk", gone("base.vmdk"), 3, nil},
		{"VMDK base cut", "vmdk-diff3.tar.gz", "diff2.vmdk", cut("base.vmdk", 140000), 4, nil},
		{"VMDK base without directories", "vmdk-diff3.tar.gz", "diff2.vmdk", poke("base.vmdk", 48, bytes.Repeat([]byte{0, 0, 0, 0, 0, 1, 0, 0}, 2)), 4, nil},
		{"VMDK piece missing", "vmdk-split.tar.gz", "disk.vmdk", gone("disk-s002.vmdk"), 3, nil},
		{"VMDK flat file cut", "vmdk-flat.tar.gz", "disk.vmdk", cut("disk-flat.vmdk", 5<<20), 4, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := unpack(t, c.archive)
			top := filepath.Join(dir, c.top)
			want := states(t, c.archive, dir)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			if r := vdfs(t, "info", top); r.code != c.code || !strings.Contains(r.stderr, "--allow-incomplete") {
				t.Errorf("info: exit %d, %q; want %d", r.code, r.stderr, c.code)
			}
			if r := vdfs(t, "chain", top); r.code != c.code || r.stdout == "" {
				t.Errorf("chain: exit %d, %q; want %d", r.code, r.stdout, c.code)
			}
			d := newWreck(t, top, want[stem(top)])
			d.mounted(t, want, c.whole)
			d.maps(t)
			d.picture(t)
			d.filled(t)
		})
	}
}

func gone(name string) func(string) error {
	return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
}

func cut(name string, size int64) func(string) error {
	return func(dir string) error { return os.Truncate(filepath.Join(dir, name), size) }
}

func poke(name string, at int64, b []byte) func(string) error {
	return func(dir string) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(b, at)
		return errors.Join(err, f.Close())
	}
}

// states copies each state of a golden chain, while it is whole, to a file by the name
// of its layer. The small ones have the hashes of the tools that wrote them.
func states(t *testing.T, archive, dir string) map[string]string {
	t.Helper()
	out, list := t.TempDir(), map[string]string{}
	for _, c := range vdtest.Cases(t) {
		if c.Archive != archive {
			continue
		}
		for _, l := range c.Layers {
			path := filepath.Join(out, stem(l.File))
			must(t, "copy", filepath.Join(dir, l.File), path)
			if list[stem(l.File)] = path; l.Capacity <= 64<<20 {
				check(t, path, l.Capacity, l.SHA256)
			}
		}
	}
	return list
}

// wreck is an incomplete disk, and what it should show.
type wreck struct {
	top, want string
	chunk     int64
	lost      []int64 // chunks of which something is lost, as the mounted disk has it
}

func newWreck(t *testing.T, top, want string) *wreck {
	st, err := os.Stat(want)
	if err != nil {
		t.Fatal(err)
	}
	d := &wreck{top: top, want: want, chunk: 64 << 10}
	if st.Size() > 1<<30 {
		d.chunk = 1 << 20
	}
	return d
}

// mounted reads all states through a mount.
func (d *wreck) mounted(t *testing.T, want map[string]string, whole []string) {
	t.Helper()
	mnt := mount(t, "--allow-incomplete", d.top)
	folder := filepath.Join(mnt, stem(d.top))
	if d.lost = readState(t, filepath.Join(folder, "disk.raw"), d.want, d.chunk); len(d.lost) == 0 {
		t.Error("nothing is lost")
	}
	b, err := os.ReadFile(filepath.Join(folder, "info.json"))
	var info struct {
		Incomplete bool
		Layers     []struct{ Incomplete bool }
		Snapshots  []string
		Unreadable []struct{ Start, Length int64 }
	}
	if err = errors.Join(err, json.Unmarshal(b, &info)); err != nil || !info.Incomplete || len(info.Unreadable) == 0 {
		t.Fatalf("%v, %.200s", err, b)
	}
	for i, s := range info.Snapshots {
		_, name, _ := strings.Cut(stem(s), "-")
		lost := readState(t, filepath.Join(folder, s), want[name], d.chunk)
		if complete := slices.Contains(whole, name); complete == info.Layers[i].Incomplete || complete && len(lost) > 0 {
			t.Errorf("%s: marked incomplete: %v; %d chunks lost", s, info.Layers[i].Incomplete, len(lost))
		}
	}
}

// readState reads a mounted file chunk by chunk, and returns those that fail or stop.
func readState(t *testing.T, path, want string, chunk int64) (lost []int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := os.Open(want)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	got, right := make([]byte, chunk), make([]byte, chunk)
	for i := int64(0); ; i++ {
		n, err := w.ReadAt(right, i*chunk)
		if n == 0 {
			return lost
		}
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		m, err := f.ReadAt(got[:n], i*chunk)
		if err != nil {
			if lost = append(lost, i); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s at %d: %v", path, i*chunk, err)
			}
		}
		if !bytes.Equal(got[:m], right[:m]) {
			t.Errorf("%s: wrong bytes in chunk %d", path, i)
		}
	}
}

// maps has ddrescuelog read the map file: what it calls bad is what could not be read.
func (d *wreck) maps(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.map")
	if err := os.WriteFile(path, []byte(must(t, "map", "--ddrescue", "--allow-incomplete", d.top)), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "ddrescuelog", "-t", path)
	var bad []int64
	for _, word := range strings.Fields(tool(t, "ddrescuelog", "-b", strconv.FormatInt(d.chunk, 10), "-l-", path)) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, n)
	}
	if !slices.Equal(bad, d.lost) {
		t.Errorf("the map file has %v as bad, the mount %v", bad, d.lost)
	}
	lost := false
	var m struct{ Extents []struct{ Kind string } }
	parse(t, must(t, "map", "--json", "--allow-incomplete", d.top), &m)
	for _, e := range m.Extents {
		lost = lost || e.Kind == "lost"
	}
	if !lost {
		t.Error("map --json lists nothing as lost")
	}
}

// picture looks for the red of lost parts at their place in the strip of the disk.
func (d *wreck) picture(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.png")
	must(t, "map", "--allow-incomplete", "--png", path, d.top)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(d.want)
	if err != nil {
		t.Fatal(err)
	}
	const left, wide, first, below = 300, 876, 90, 122 // the strip of the disk, below that of partitions if there is one
	for _, chunk := range d.lost {
		x := left + (chunk*d.chunk+d.chunk/2)*wide/st.Size()
		red := false
		for near := x - 1 - d.chunk*wide/st.Size(); near <= x+1+d.chunk*wide/st.Size(); near++ {
			for _, y := range []int{first, below} {
				c := color.RGBAModel.Convert(img.At(int(near), y)).(color.RGBA)
				red = red || c.R > 180 && c.G < 80 && c.B < 80
			}
		}
		if !red {
			t.Fatalf("chunk %d is lost, and not red at %d", chunk, x)
		}
	}
	if r := vdfs(t, "map", "--allow-incomplete", "--png", path, d.top); r.code != 2 || !strings.Contains(r.stderr, "--force") {
		t.Errorf("over the picture: exit %d, %q", r.code, r.stderr)
	}
	if r := vdfs(t, "map", "--allow-incomplete", "--force", "--png", d.top, d.top); r.code != 1 {
		t.Errorf("over the image: exit %d, %q", r.code, r.stderr)
	}
}

// filled reads with zeros for what is lost, by copy and by mount.
func (d *wreck) filled(t *testing.T) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.raw")
	if r := vdfs(t, "copy", "--allow-incomplete", d.top, out); r.code == 0 || !strings.Contains(r.stderr, "--fill=zero") {
		t.Errorf("copy: exit %d, %q", r.code, r.stderr)
	}
	must(t, "copy", "--allow-incomplete", "--fill=zero", d.top, out)
	mnt := mount(t, "--allow-incomplete", "--fill=zero", d.top)
	for _, path := range []string{out, filepath.Join(mnt, stem(d.top), "disk.raw")} {
		if err := sameButLost(path, d); err != nil {
			t.Error(err)
		}
	}
}

// sameButLost compares the chunks nothing is lost of. In the others each byte is right
// or zero.
func sameButLost(path string, d *wreck) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := os.Open(d.want)
	if err != nil {
		return err
	}
	defer w.Close()
	got, right := make([]byte, d.chunk), make([]byte, d.chunk)
	for i := int64(0); ; i++ {
		n, err := io.ReadFull(w, right)
		if err == io.EOF {
			return nil
		}
		if _, err := io.ReadFull(f, got[:n]); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		lost := slices.Contains(d.lost, i)
		for k := range got[:n] {
			if got[k] != right[k] && !(lost && got[k] == 0) {
				return fmt.Errorf("%s: wrong byte at %d", path, i*d.chunk+int64(k))
			}
		}
	}
}
