package integration

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vdfs/vdcore/vdtest"
)

const repairSize = 8 << 20

// patch changes a file: little-endian numbers of 4 or 8 bytes.
func patch(t *testing.T, path string, fn func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, fn(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tableAt is where the first grain table of a VMDK lies.
func tableAt(b []byte) uint32 {
	le := binary.LittleEndian
	return le.Uint32(b[le.Uint64(b[56:])*512:]) * 512
}

// TestRepair damages images QEMU made, repairs them, and has QEMU compare: what was
// intact is there, and what is lost reads as zeros.
func TestRepair(t *testing.T) {
	needTool(t, "qemu-img")
	content := make([]byte, repairSize)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	le := binary.LittleEndian
	for _, c := range []struct {
		name, format string
		damage       func(b []byte) []byte
		code         string
		lost         [2]int // guest bytes
	}{
		{"slot outside", "vdi", func(b []byte) []byte { le.PutUint32(b[0x200+8:], 1<<20); return b }, "slot-outside", [2]int{2 << 20, 3 << 20}},
		{"shared slot", "vdi", func(b []byte) []byte { le.PutUint32(b[0x200+20:], 1); return b }, "shared-slot", [2]int{5 << 20, 6 << 20}},
		{"torn slot", "vdi", func(b []byte) []byte { return b[:len(b)-5000] }, "slot-torn", [2]int{repairSize - 5000, repairSize}},
		{"block count", "vdi", func(b []byte) []byte { le.PutUint32(b[388:], 3); return b }, "block-count", [2]int{}},
		{"directory outside", "vmdk", func(b []byte) []byte { le.PutUint64(b[56:], 1<<30); return b }, "directory-outside", [2]int{}},
		{"table outside", "vmdk", func(b []byte) []byte { le.PutUint32(b[le.Uint64(b[56:])*512:], 1<<30); return b }, "table-outside", [2]int{}},
		{"grain outside", "vmdk", func(b []byte) []byte { le.PutUint32(b[tableAt(b)+28:], 1<<30); return b }, "grain-outside", [2]int{}},
		{"shared grain", "vmdk", func(b []byte) []byte { copy(b[tableAt(b)+28:][:4], b[tableAt(b)+40:]); return b }, "shared-grain", [2]int{}},
		{"torn grain", "vmdk", func(b []byte) []byte { return b[:len(b)-5000] }, "grain-torn", [2]int{repairSize - 5000, repairSize}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			raw, img := filepath.Join(dir, "flat.raw"), filepath.Join(dir, "disk."+c.format)
			if err := os.WriteFile(raw, content, 0o600); err != nil {
				t.Fatal(err)
			}
			tool(t, "qemu-img", "convert", "-f", "raw", "-O", c.format, raw, img)
			patch(t, img, c.damage)
			before := sum(t, img)
			for _, args := range [][]string{{"check", img}, {"check", "--repair", "--dry-run", img}} {
				if r := vdfs(t, args...); r.code != 4 && c.code != "directory-outside" || !strings.Contains(r.stdout, c.code) || sum(t, img) != before {
					t.Fatalf("%v: exit %d, %s%s", args, r.code, r.stdout, r.stderr)
				}
			}
			out := must(t, "check", "--repair", img)
			if st, err := os.Stat(img + ".vdfs-backup-1"); err != nil || st.Mode() != 0o600 {
				t.Errorf("the backup: %v, %v", st, err)
			}
			if lost := strings.Contains(out, "DATA LOST"); lost != (c.lost[1] > 0) {
				t.Error(out)
			}
			patch(t, raw, func(b []byte) []byte { clear(b[c.lost[0]:c.lost[1]]); return b })
			tool(t, "qemu-img", "compare", "-f", c.format, "-F", "raw", img, raw)
			tool(t, "qemu-img", "check", "-f", c.format, img)
			if out := must(t, "check", "--repair", img); !strings.Contains(out, "nothing to repair") {
				t.Error(out)
			}
		})
	}
}

// TestRepairStream: a streamOptimized file of VirtualBox's that lost its footer shows
// all of its grains again.
func TestRepairStream(t *testing.T) {
	for _, c := range vdtest.Cases(t) {
		if c.Archive != "vmdk-stream.tar.gz" {
			continue
		}
		dir := t.TempDir()
		vdtest.Unpack(t, c.Archive, dir)
		top := c.Layers[0]
		img, out := filepath.Join(dir, top.File), filepath.Join(dir, "out.raw")
		patch(t, img, func(b []byte) []byte { return b[:len(b)-1024] })
		if r := vdfs(t, "copy", img, out); r.code != 4 || !strings.Contains(r.stderr, "footer") {
			t.Fatalf("exit %d, %s", r.code, r.stderr)
		}
		if r := vdfs(t, "check", img); r.code != 4 || !strings.Contains(r.stdout, "damage (footer)") {
			t.Errorf("exit %d, %s", r.code, r.stdout)
		}
		must(t, "check", "--repair", img)
		must(t, "copy", img, out)
		check(t, out, top.Capacity, top.SHA256)
		tool(t, "qemu-img", "compare", img, out)
	}
}

// TestRepairRefused: an image that is in use, or a parent, is not touched; what cannot
// be mended stays exit 4.
func TestRepairRefused(t *testing.T) {
	dir := demoChain(t)
	top, base := filepath.Join(dir, "updated.vdi"), filepath.Join(dir, "base.vdi")
	truncated("updated.vdi", 2<<20+1000)(t, dir)
	parent := sum(t, base)
	orphan := filepath.Join(t.TempDir(), "orphan.vdi")
	if err := os.Link(filepath.Join(dir, "installed.vdi"), orphan); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code int
		args []string
	}{
		{1, []string{"check", "--dry-run", top}},
		{1, []string{"check", "--break-children", top}},
		{5, []string{"check", "--repair", base}},
		{2, []string{"check", "--repair", filepath.Join(dir, "none.vdi")}},
		{0, []string{"check", "--repair", "--break-children", base}},
		{3, []string{"check", "--repair", orphan}},
	} {
		if r := vdfs(t, c.args...); r.code != c.code || c.code > 0 && strings.Contains(r.stdout, "repaired") {
			t.Errorf("%v: exit %d, want %d: %s%s", c.args, r.code, c.code, r.stdout, r.stderr)
		}
	}
	mnt := mount(t, "--allow-incomplete", top)
	if r := vdfs(t, "check", "--repair", top); r.code != 5 {
		t.Errorf("a mounted image: exit %d, %s", r.code, r.stderr)
	}
	must(t, "umount", mnt)
	var said struct {
		Mends []struct {
			Code string `json:"code"`
			Lost []struct{ Offset, Length int64 }
		}
		Backups []string
	}
	if err := json.Unmarshal([]byte(must(t, "check", "--repair", "--json", top)), &said); err != nil || len(said.Mends) == 0 || len(said.Backups) != 1 || len(said.Mends[0].Lost) == 0 {
		t.Errorf("%+v, %v", said, err)
	}
	must(t, "check", top)
	if sum(t, base) != parent {
		t.Error("the parent was changed")
	}
	damaged("updated.vdi", 376, "\x00\x00\x00\x00")(t, dir)
	if r := vdfs(t, "check", "--repair", top); r.code != 4 || !strings.Contains(r.stderr, "cannot be mended") {
		t.Errorf("no block size: exit %d, %s", r.code, r.stderr)
	}
}

// TestDamagedNotWritten: whatever writes refuses an image it would make worse, with the
// exit code of what is wrong and the way out.
func TestDamagedNotWritten(t *testing.T) {
	dir := demoChain(t)
	img := truncated("updated.vdi", 2<<20+1000)(t, dir)
	before := sum(t, img)
	for _, args := range [][]string{
		{"mount", "--rw", img, t.TempDir()}, {"mount", "--rw", "--allow-incomplete", img, t.TempDir()}, {"mount", "--overlay", "tmp", "--allow-incomplete", img, t.TempDir()},
		{"compact", img}, {"resize", "--size", "128M", img}, {"merge", img},
	} {
		if r := vdfs(t, args...); r.code != 4 || !strings.Contains(r.stderr, "vdfs check --repair") {
			t.Errorf("%v: exit %d, %q", args, r.code, r.stderr)
		}
	}
	if r := vdfs(t, "mount", "--rw", "--allow-incomplete", without("base.vdi")(t, demoChain(t)), t.TempDir()); r.code != 3 || !strings.Contains(r.stderr, "until that is back") {
		t.Errorf("without a base: exit %d, %q", r.code, r.stderr)
	}
	if sum(t, img) != before {
		t.Error("the image was changed")
	}
}
