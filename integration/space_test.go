package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// spaceFormats are what images are compacted and resized in, with qemu-img's options.
var spaceFormats = []struct{ name, format, option string }{
	{"disk.vdi", "vdi", ""},
	{"fixed.vdi", "vdi", "static=on"},
	{"disk.vmdk", "vmdk", ""},
	{"zeroed.vmdk", "vmdk", "zeroed_grain=on"},
	{"flat.vmdk", "vmdk", "subformat=monolithicFlat"},
	{"disk.raw", "raw", ""},
}

// full makes an image that holds the zeros of the model too.
func (m *model) full(t testing.TB, dir, name, format, option string) string {
	t.Helper()
	path, src := filepath.Join(dir, name), filepath.Join(t.TempDir(), "src")
	writeFile(t, src, m.content)
	args := []string{"convert", "-S", "0", "-f", "raw", "-O", format}
	if option != "" {
		args = append(args, "-o", option)
	}
	tool(t, "qemu-img", append(args, src, path)...)
	return path
}

// taken is how much room the files of a folder take, bytes.
func taken(t testing.TB, dir string) (n int64) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range list {
		n += blocks(t, path)
	}
	return n
}

// TestCompact: half of the disk is zeros, and the files take half as much afterwards.
func TestCompact(t *testing.T) {
	needTool(t, "qemu-img")
	for _, c := range spaceFormats {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := newModel(31)
			img := m.full(t, dir, c.name, c.format, c.option)
			before, id := taken(t, dir), identity(t, img)
			r := vdfs(t, "compact", img)
			if r.code != 0 {
				t.Fatalf("exit %d: %s", r.code, r.stderr)
			}
			if after := taken(t, dir); strings.HasPrefix(c.name, "fixed") {
				if after < before || !strings.Contains(r.stderr, "keeps its blocks") {
					t.Errorf("a fixed image took %d, takes %d: %s", before, after, r.stderr)
				}
			} else if after > before*6/10 {
				t.Errorf("%d taken, %d before", after, before)
			}
			if identity(t, img) != id {
				t.Error("the identity changed")
			}
			m.shows(t, img)
			m.asQEMU(t, img, c.format)
			if out := must(t, "check", img); strings.Contains(out, "leak") {
				t.Error(out)
			}
		})
	}
}

// TestResize: larger, smaller, and refused where data would be lost.
func TestResize(t *testing.T) {
	needTool(t, "qemu-img")
	for _, c := range spaceFormats {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := newModel(32)
			img := m.full(t, dir, c.name, c.format, c.option)
			m.content = append(m.content, make([]byte, 48<<20)...)
			must(t, "resize", "--size", fmt.Sprint(len(m.content)), img)
			m.sized(t, img, c.format)
			r := vdfs(t, "resize", "--size", "14M", img)
			if r.code != 2 || !strings.Contains(r.stderr, "guest bytes 14680064 to") {
				t.Errorf("data would be lost: exit %d, %s", r.code, r.stderr)
			}
			m.content = m.content[:20<<20]
			must(t, "resize", "--size", "20M", img)
			m.sized(t, img, c.format)
		})
	}
}

// sized compares with the model, also of what QEMU reads.
func (m *model) sized(t *testing.T, img, format string) {
	t.Helper()
	m.shows(t, img)
	out := filepath.Join(t.TempDir(), "out")
	tool(t, "qemu-img", "convert", "-f", format, "-O", "raw", img, out)
	st, err := os.Stat(out)
	if err != nil || st.Size() < int64(len(m.content)) || st.Size() > int64(len(m.content))+64<<10 {
		t.Fatalf("QEMU sees %v, %v, want %d bytes", st, err, len(m.content))
	}
	if err := os.Truncate(out, int64(len(m.content))); err != nil {
		t.Fatal(err)
	}
	m.equals(t, out)
	if out := must(t, "check", img); strings.Contains(out, "leak") {
		t.Error(out)
	}
}

// TestSpaceRefused: parents of others, and sizes that are none.
func TestSpaceRefused(t *testing.T) {
	needTool(t, "qemu-img")
	dir := t.TempDir()
	m := newModel(33)
	img := m.image(t, dir, "disk.vdi", "vdi")
	must(t, "snapshot", img, filepath.Join(dir, "over.vdi"))
	check := unchanged(t, img)
	for _, args := range [][]string{{"compact", img}, {"resize", "--size", "1G", img}} {
		if r := vdfs(t, args...); r.code != 5 || !strings.Contains(r.stderr, "over.vdi") {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
	}
	for size, code := range map[string]int{"0": 1, "many": 1, "1G1": 1, "8192P": 1, "1073741825": 2, "4000P": 2} {
		if r := vdfs(t, "resize", "--size", size, filepath.Join(dir, "over.vdi")); r.code != code {
			t.Errorf("--size %s: exit %d, %s", size, r.code, r.stderr)
		}
	}
	check()
}
