package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMerge: the parent holds what the overlay showed, under a new identity, and
// the overlay is gone.
func TestMerge(t *testing.T) {
	needTool(t, "qemu-img")
	for _, c := range []struct{ format, overlay string }{
		{"vdi", "over.vdi"}, {"vdi", "over.vmdk"}, {"vmdk", "over.vmdk"}, {"raw", "over.vmdk"},
	} {
		t.Run(c.format+"-"+c.overlay, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := newModel(13)
			img := m.image(t, dir, "disk."+c.format, c.format)
			over := filepath.Join(dir, c.overlay)
			mnt := mount(t, "--overlay", over, img)
			m.scribble(t, filepath.Join(mnt, "disk", "disk.raw"), 60)
			must(t, "umount", mnt)
			before := identity(t, img)
			args := []string{"merge", over}
			if c.format == "raw" {
				if r := vdfs(t, args...); r.code == 0 {
					t.Error("merged into a plain disk that nobody vouched for")
				}
				args = []string{"merge", "--parent", img, "--allow-modified-parent", over}
			}
			must(t, args...)
			if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
				t.Errorf("left: %v, %v", list, err)
			}
			m.shows(t, img)
			m.asQEMU(t, img, c.format)
			must(t, "check", img)
			if after := identity(t, img); after == before && c.format != "raw" {
				t.Errorf("the identity stays %s", after)
			}
		})
	}
}

// identity is what children record of an image.
func identity(t *testing.T, path string) string {
	t.Helper()
	var info struct {
		Layers []struct {
			UUIDs json.RawMessage `json:"uuids"`
		}
	}
	parse(t, must(t, "info", "--json", path), &info)
	return string(info.Layers[len(info.Layers)-1].UUIDs)
}

// TestMergeRefused: images that others were made from, and those that are mounted.
func TestMergeRefused(t *testing.T) {
	needTool(t, "qemu-img")
	dir := t.TempDir()
	m := newModel(14)
	img := m.image(t, dir, "disk.vdi", "vdi")
	one, two := filepath.Join(dir, "one.vdi"), filepath.Join(dir, "two.vdi")
	must(t, "snapshot", img, one)
	for what, parent := range map[string]string{"a child of the overlay": one, "another child of the parent": img} {
		must(t, "snapshot", parent, two)
		if r := vdfs(t, "merge", one); r.code != 5 || !strings.Contains(r.stderr, "two.vdi") {
			t.Errorf("merge beside %s: exit %d, %q", what, r.code, r.stderr)
		}
		if err := os.Remove(two); err != nil {
			t.Fatal(err)
		}
	}
	mnt := mount(t, one)
	if r := vdfs(t, "merge", one); r.code != 5 {
		t.Errorf("merge of a mounted image: exit %d, %q", r.code, r.stderr)
	}
	must(t, "umount", mnt)
	must(t, "merge", one)
	if r := vdfs(t, "merge", img); r.code != 2 || !strings.Contains(r.stderr, "no parent") {
		t.Errorf("merge of a base: exit %d, %q", r.code, r.stderr)
	}
	m.shows(t, img)
}

// TestMergeKilled: a merge that was killed, or stopped, goes on.
func TestMergeKilled(t *testing.T) {
	needTool(t, "qemu-img")
	dir := t.TempDir()
	m := newModel(15)
	img := m.image(t, dir, "disk.vdi", "vdi")
	over := filepath.Join(dir, "over.vdi")
	mnt := mount(t, "--overlay", over, img)
	m.scribble(t, filepath.Join(mnt, "disk", "disk.raw"), 100)
	must(t, "umount", mnt)
	stopped := 0
	for i, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGKILL, syscall.SIGKILL} {
		cmd := exec.Command(vdfsBinary, "merge", over)
		began := modified(t, img)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Second); modified(t, img) == began && time.Now().Before(end); {
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		cmd.Process.Signal(sig)
		cmd.Wait()
		if _, err := os.Stat(over); err != nil {
			break // the merge was faster
		}
		stopped++
		m.shows(t, over)
	}
	t.Logf("stopped %d times", stopped)
	if _, err := os.Stat(over); err == nil {
		must(t, "merge", over)
	}
	m.shows(t, img)
	m.asQEMU(t, img, "vdi")
}

func modified(t testing.TB, path string) time.Time {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.ModTime()
}
