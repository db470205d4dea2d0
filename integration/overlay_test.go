package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOverlay: an overlay takes the writes and the image stays as it is; a second
// mount goes on with it, and another image is refused.
func TestOverlay(t *testing.T) {
	needTool(t, "qemu-img")
	for _, c := range []struct{ format, overlay string }{
		{"vdi", "changes.vdi"}, {"vdi", "changes.vmdk"}, {"vmdk", "changes.vmdk"}, {"raw", "changes.vmdk"},
	} {
		t.Run(c.format+"-"+c.overlay, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := newModel(7)
			img := m.image(t, dir, "disk."+c.format, c.format)
			same := unchanged(t, img)
			over := filepath.Join(dir, c.overlay)
			for range 2 {
				mnt := mount(t, "--overlay", over, img)
				disk := filepath.Join(mnt, "disk", "disk.raw")
				m.equals(t, disk)
				m.scribble(t, disk, 40)
				m.equals(t, disk)
				if line := mountLine(t, mnt); !strings.HasPrefix(line, img+" ") {
					t.Errorf("mounted as %q", line)
				}
				must(t, "umount", mnt)
				same()
			}
			open := []string{over}
			if c.format == "raw" {
				open = []string{"--parent", img, "--allow-modified-parent", over}
			}
			m.shows(t, open...)

			other := newModel(8).image(t, dir, "other."+c.format, c.format)
			r := vdfs(t, "mount", "--overlay", over, other, t.TempDir())
			if r.code != 4 || !strings.Contains(r.stderr, "not") || !strings.Contains(r.stderr, "other."+c.format) {
				t.Errorf("the overlay of another image: exit %d, %q", r.code, r.stderr)
			}
		})
	}
}

// TestOverlayRefused: what cannot be an overlay is said to be so, and an overlay
// made in vain does not stay.
func TestOverlayRefused(t *testing.T) {
	needTool(t, "qemu-img")
	dir, mnt := t.TempDir(), t.TempDir()
	img := newModel(9).image(t, dir, "disk.vdi", "vdi")
	raw := newModel(9).image(t, dir, "plain.raw", "raw")
	over := filepath.Join(dir, "over.vdi")
	for _, c := range []struct {
		args []string
		code int
		word string
	}{
		{[]string{"--overlay", raw, img, mnt}, 4, "no parent"},
		{[]string{"--overlay", img, raw, mnt}, 4, "no parent"},
		{[]string{"--overlay", over, raw, mnt}, 2, ".vmdk"},
		{[]string{"--overlay", filepath.Join(dir, "over.qcow2"), img, mnt}, 1, ".vmdk"},
		{[]string{"--overlay", over, "-o", "nonempty", img, dir}, 1, "hide"},
		{[]string{"--overlay", filepath.Join(dir, "none", "over.vdi"), img, mnt}, 2, "none"},
	} {
		if r := vdfs(t, append([]string{"mount"}, c.args...)...); r.code != c.code || !strings.Contains(r.stderr, c.word) {
			t.Errorf("mount %v: exit %d, %q", c.args, r.code, r.stderr)
		}
	}
	if _, err := os.Stat(over); err == nil {
		t.Error("an overlay stayed behind although nothing was mounted")
	}
}

// TestOverlayTemp: a temporary overlay has no name, and goes with the mount.
func TestOverlayTemp(t *testing.T) {
	needFUSE(t)
	needTool(t, "qemu-img")
	for _, format := range []string{"vdi", "vmdk", "raw"} {
		t.Run(format, func(t *testing.T) {
			m := newModel(10)
			img := m.image(t, t.TempDir(), "disk."+format, format)
			same := unchanged(t, img)
			mnt, tmp := t.TempDir(), t.TempDir()
			in := func(c *exec.Cmd) { c.Env = append(os.Environ(), "TMPDIR="+tmp) }
			if r := command(t, in, vdfsBinary, "mount", "--overlay", "tmp", img, mnt); r.code != 0 || r.stderr != "" {
				t.Fatalf("%+v", r)
			}
			pid := daemon(t, mnt)
			t.Cleanup(func() { unmount(t, mnt, pid) })
			disk := filepath.Join(mnt, "disk", "disk.raw")
			m.scribble(t, disk, 40)
			m.equals(t, disk)
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("%s holds %v, %v", tmp, left, err)
			}
			must(t, "umount", mnt)
			same()
		})
	}
}

// TestSnapshot: a new image on top of another is found by everybody.
func TestSnapshot(t *testing.T) {
	needTool(t, "qemu-img")
	dir := t.TempDir()
	m := newModel(11)
	img := m.image(t, dir, "disk.vmdk", "vmdk")
	snap, deep := filepath.Join(dir, "one.vmdk"), filepath.Join(dir, "Snapshots", "two.vmdk")
	if err := os.Mkdir(filepath.Dir(deep), 0o755); err != nil {
		t.Fatal(err)
	}
	same := unchanged(t, img)
	must(t, "snapshot", img, snap)
	must(t, "snapshot", snap, deep)
	m.shows(t, deep)
	m.asQEMU(t, deep, "vmdk")
	if out := tool(t, "qemu-img", "info", "--backing-chain", deep); strings.Count(out, "create type") != 3 {
		t.Errorf("qemu-img sees\n%s", out)
	}
	if out := must(t, "chain", deep); strings.Count(out, "[ok]") != 2 {
		t.Errorf("chain:\n%s", out)
	}
	mnt := mount(t, "--rw", deep)
	m.scribble(t, filepath.Join(mnt, "two", "disk.raw"), 40)
	must(t, "umount", mnt)
	m.shows(t, deep)
	m.asQEMU(t, deep, "vmdk")
	same()
	for _, c := range []struct {
		args []string
		code int
	}{{[]string{img, snap}, 2}, {[]string{img, filepath.Join(dir, "x.raw")}, 1}, {[]string{img, filepath.Join(dir, "x")}, 1}, {[]string{img}, 1}} {
		if r := vdfs(t, append([]string{"snapshot"}, c.args...)...); r.code != c.code || r.stderr == "" {
			t.Errorf("snapshot %v: exit %d, %q", c.args, r.code, r.stderr)
		}
	}
}

// TestSnapshotElsewhere: what it takes to open the image is said when it is made.
func TestSnapshotElsewhere(t *testing.T) {
	needTool(t, "qemu-img")
	m := newModel(12)
	dir := t.TempDir()
	img := m.image(t, dir, "disk.vdi", "vdi")
	far := filepath.Join(t.TempDir(), "far", "away", "new.vdi")
	if err := os.MkdirAll(filepath.Dir(far), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := vdfs(t, "snapshot", img, far); r.code != 0 || !strings.Contains(r.stderr, "--parent "+img) {
		t.Errorf("%+v", r)
	}
	m.shows(t, "--parent", img, far)
	raw := m.image(t, dir, "plain.raw", "raw")
	over := filepath.Join(dir, "plain.vmdk")
	if r := vdfs(t, "snapshot", raw, over); r.code != 0 || !strings.Contains(r.stderr, "--allow-modified-parent") {
		t.Errorf("%+v", r)
	}
	m.shows(t, "--parent", raw, "--allow-modified-parent", over)
}
