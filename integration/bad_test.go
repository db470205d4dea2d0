package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBadInput: each kind of bad input gets its exit code and one message that
// names what is wrong; never a panic, a hang, or 256 MiB.
func TestBadInput(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(t *testing.T, dir string) string // makes the input and returns what to open
		code  int
		words []string
	}{
		{"no such file", func(_ *testing.T, dir string) string { return dir + "/none.vdi" }, 2, []string{"none.vdi"}},
		{"a folder", func(_ *testing.T, dir string) string { return dir }, 2, []string{"a folder"}},
		{"a device", func(_ *testing.T, dir string) string { return "/dev/null" }, 2, []string{"a device"}},
		{"text called .vdi", text("notes.vdi", "hello"), 2, []string{"not a VDI image", "--format raw"}},
		{"empty file", text("disk.raw", ""), 2, []string{"disk.raw"}},
		{"parent missing", without("base.vdi"), 3, []string{"installed.vdi", "missing", "--search", "--parent"}},
		{"middle missing", without("configured.vdi"), 3, []string{"updated.vdi", "missing"}},
		{"truncated", truncated("updated.vdi", 2<<20+1000), 4, []string{"updated.vdi", "past", "--allow-incomplete"}},
		{"truncated header", truncated("updated.vdi", 100), 4, []string{"header"}},
		{"parent not an image", damaged("base.vdi", 64, "\x00\x00\x00\x00"), 3, []string{"installed.vdi", "missing"}},
		{"version", damaged("updated.vdi", 70, "\x09"), 2, []string{"version 9.1"}},
		{"block size", damaged("updated.vdi", 376, "\x00\x00\x00\x00"), 4, []string{"block size"}},
		{"extent outside", descriptor(`RW 64 FLAT "../../../../etc/passwd" 0`), 2, []string{"passwd"}},
		{"extent absolute", descriptor(`RW 64 FLAT "/etc/passwd" 0`), 2, []string{"passwd"}},
		{"extent a device", descriptor(`RW 64 FLAT "/dev/zero" 0`), 2, []string{"/dev/zero"}},
		{"extent a folder", descriptor(`RW 64 FLAT "." 0`), 2, []string{"disk.vmdk"}},
		{"extent missing", descriptor(`RW 64 FLAT "disk-flat.vmdk" 0`), 3, []string{"disk-flat.vmdk", "missing"}},
		{"extent too large", descriptor(`RW 9223372036854775807 FLAT "disk-flat.vmdk" 0`), 4, []string{"disk.vmdk"}},
		{"extent type", descriptor(`RW 64 HOLOGRAM "x" 0`), 2, []string{"HOLOGRAM"}},
		{"no extents", descriptor(``), 4, []string{"extent"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := c.setup(t, demoChain(t))
			cmd := exec.Command(vdfsBinary, "copy", img, filepath.Join(t.TempDir(), "out"))
			var errs bytes.Buffer
			cmd.Stderr = &errs
			err := cmd.Start()
			if err != nil {
				t.Fatal(err)
			}
			hung := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
			err = cmd.Wait()
			hung.Stop()
			usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			msg := errs.String()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit %d (%v), want %d: %s", code, err, c.code, msg)
			}
			for _, w := range append(c.words, "vdfs: ") {
				if !strings.Contains(msg, w) {
					t.Errorf("no %q in %q", w, msg)
				}
			}
			if strings.Contains(msg, "goroutine") || strings.Contains(msg, "root:") || strings.ContainsRune(msg, 0x1b) {
				t.Errorf("message: %q", msg)
			}
			if usage.Maxrss > 256<<10 {
				t.Errorf("%d KiB", usage.Maxrss)
			}
		})
	}
}

func text(name, content string) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func without(name string) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "updated.vdi")
	}
}

func truncated(name string, size int64) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "updated.vdi")
	}
}

func damaged(name string, at int64, bytes string) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte(bytes), at)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		return filepath.Join(dir, "updated.vdi")
	}
}

func descriptor(extents string) func(*testing.T, string) string {
	return text("disk.vmdk", "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"custom\"\n\n# Extent description\n"+
		extents+"\n\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n")
}

// TestIncomplete: what can be read is read, the rest is an error or zeros, and is
// listed.
func TestIncomplete(t *testing.T) {
	dir := demoChain(t)
	whole := filepath.Join(t.TempDir(), "whole")
	must(t, "copy", filepath.Join(dir, "updated.vdi"), whole)
	content, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	top := without("base.vdi")(t, dir)
	mnt := mount(t, "--allow-incomplete", top)
	f, err := os.Open(filepath.Join(mnt, "updated", "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	good, lost := 0, 0
	buf := make([]byte, 4096)
	for off := int64(0); off < 64<<20; off += 1 << 20 {
		if _, err := f.ReadAt(buf, off); err != nil {
			lost++
		} else if good++; !bytes.Equal(buf, content[off:off+4096]) {
			t.Errorf("wrong bytes at %d", off)
		}
	}
	if good == 0 || lost == 0 {
		t.Errorf("%d blocks good, %d lost", good, lost)
	}
	info, err := os.ReadFile(filepath.Join(mnt, "updated", "info.json"))
	if err != nil || !strings.Contains(string(info), `"incomplete": true`) || !strings.Contains(string(info), "missing") {
		t.Errorf("info.json does not say what is missing (%v)", err)
	}
	if m := must(t, "map", "--allow-incomplete", top); !strings.Contains(m, "lost") {
		t.Error("map lists nothing as lost")
	}
	out := filepath.Join(t.TempDir(), "out")
	if r := vdfs(t, "copy", "--allow-incomplete", top, out); r.code == 0 || !strings.Contains(r.stderr, "--fill=zero") {
		t.Errorf("copy of a disk with lost ranges: exit %d, %q", r.code, r.stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the half-made copy was left behind")
	}
	must(t, "copy", "--allow-incomplete", "--fill=zero", top, out)
}

// TestUsage: command lines that make no sense are exit 1.
func TestUsage(t *testing.T) {
	img := filepath.Join(demoChain(t), "updated.vdi")
	for _, args := range [][]string{
		{"nonsense"}, {"mount", img}, {"mount"}, {"info"}, {"info", img, img}, {"copy", img}, {"info", "--fill=x", img},
		{"info", "--fill=zero", img}, {"info", "--nonsense", img}, {"umount"}, {"map", "--allow-incomplete=maybe", img},
	} {
		if r := vdfs(t, args...); r.code != 1 || r.stderr == "" {
			t.Errorf("%v: exit %d, %q", args, r.code, r.stderr)
		}
	}
	exists := text("exists", "precious")(t, t.TempDir())
	if r := vdfs(t, "copy", img, exists); r.code != 2 || !strings.Contains(r.stderr, "exists") {
		t.Errorf("copy over a file: exit %d, %q", r.code, r.stderr)
	}
	if b, err := os.ReadFile(exists); string(b) != "precious" {
		t.Errorf("the file is now %q, %v", b, err)
	}
	for _, mnt := range []string{filepath.Join(t.TempDir(), "none"), exists + "/x"} {
		if r := vdfs(t, "mount", img, mnt); r.code == 0 || r.stderr == "" {
			t.Errorf("mount on %s: exit %d, %q", mnt, r.code, r.stderr)
		}
	}
}

// TestChainVerb: the tree, its verdicts, and the leaves beside a base.
func TestChainVerb(t *testing.T) {
	dir := demoChain(t)
	out := must(t, "chain", filepath.Join(dir, "base.vdi"))
	last := -1
	for _, name := range []string{"> base.vdi", "installed.vdi", "configured.vdi", "updated.vdi"} {
		at := strings.Index(out, name)
		if at < last || at < 0 {
			t.Errorf("%q is not in its place:\n%s", name, out)
		}
		last = at
	}
	top := without("base.vdi")(t, dir)
	if r := vdfs(t, "chain", top); r.code != 3 || !strings.Contains(r.stdout, "[missing]") || !strings.Contains(r.stdout, "updated.vdi") {
		t.Errorf("a broken chain: exit %d\n%s", r.code, r.stdout)
	}
}

// TestSearch: a parent elsewhere is found with --search and with --parent.
func TestSearch(t *testing.T) {
	dir, other := demoChain(t), filepath.Join(t.TempDir(), "deep", "other")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(other, "moved.vdi")
	if err := os.Rename(filepath.Join(dir, "base.vdi"), base); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(dir, "updated.vdi")
	for _, args := range [][]string{{"--search", other}, {"--parent", base}} {
		out := filepath.Join(t.TempDir(), "out")
		must(t, append(append([]string{"copy"}, args...), top, out)...)
		check(t, out, 64<<20, demoHash)
	}
	if r := vdfs(t, "info", "--search", "/nowhere", top); r.code != 2 {
		t.Errorf("--search of nothing: exit %d", r.code)
	}
}

// TestTerminal: control characters of a comment never reach the terminal.
func TestTerminal(t *testing.T) {
	img := damaged("updated.vdi", 84, "\x1b[31mred\x07")(t, demoChain(t))
	for _, verb := range [][]string{{"info"}, {"info", "--json"}, {"info", "--header"}, {"chain"}} {
		if out := must(t, append(verb, img)...); strings.ContainsAny(out, "\x1b\x07") {
			t.Errorf("%v prints %q", verb, out)
		}
	}
	if out := must(t, "info", img); !strings.Contains(out, `\x1b[31mred`) {
		t.Errorf("the comment is not shown: %s", out)
	}
}
