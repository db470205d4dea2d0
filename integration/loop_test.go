package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// attach sets a loop device up over a file and takes it down with the test, before
// the mount below it goes.
func attach(t *testing.T, file string, more ...string) string {
	t.Helper()
	needRoot(t)
	needTool(t, "losetup")
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		skip(t, "no loop devices here: %v", err)
	}
	dev := strings.TrimSpace(tool(t, "losetup", append([]string{"-r", "-P", "-f", "--show", file}, more...)...))
	t.Cleanup(func() {
		if r := command(noContext{t}, nil, "losetup", "-d", dev); r.code != 0 && !strings.Contains(r.stderr, "No such device") {
			t.Errorf("losetup -d %s: %s", dev, r.stderr)
		}
	})
	return dev
}

// TestLoop: what people do next works, and unmounting below a loop device is
// refused by name without losing anything.
func TestLoop(t *testing.T) {
	mnt := mount(t, filepath.Join(demoChain(t), "updated.vdi"))
	disk := filepath.Join(mnt, "updated", "disk.raw")
	dev := attach(t, disk)
	part := dev + "p1"
	if _, err := os.Stat(part); err != nil {
		t.Log("this kernel reads no partition tables: the partition is attached by its offset")
		part = attach(t, disk, "-o", "1048576", "--sizelimit", "65011712")
	}
	tool(t, "e2fsck", "-fn", part)

	inside := t.TempDir()
	tool(t, "mount", "-o", "ro,noload", part, inside)
	list, err := os.ReadDir(inside)
	r := command(t, nil, "umount", inside)
	if err != nil || len(list) < 3 || r.code != 0 {
		t.Errorf("the file system inside: %d entries, %v, %s", len(list), err, r.stderr)
	}

	u := vdfs(t, "umount", mnt)
	if u.code != 5 || !strings.Contains(u.stderr, dev) {
		t.Errorf("umount below %s: exit %d, %q", dev, u.code, u.stderr)
	}
	check(t, disk, 64<<20, demoHash)
	if got := strings.Fields(tool(t, "sha256sum", dev))[0]; got != demoHash {
		t.Errorf("the loop device reads %s", got)
	}
}

// TestSleuthkit: mmls finds the partition and fls its files.
func TestSleuthkit(t *testing.T) {
	mnt := mount(t, filepath.Join(demoChain(t), "updated.vdi"))
	disk := filepath.Join(mnt, "updated", "disk.raw")
	if out := tool(t, "mmls", disk); !strings.Contains(out, "0000002048") {
		t.Errorf("mmls: %s", out)
	}
	if out := tool(t, "fls", "-o", "2048", disk); !strings.Contains(out, "lost+found") {
		t.Errorf("fls: %s", out)
	}
}

// TestHeldByProcess: an open file keeps the mount, and the process is named.
func TestHeldByProcess(t *testing.T) {
	mnt := mount(t, filepath.Join(demoChain(t), "updated.vdi"))
	f, err := os.Open(filepath.Join(mnt, "updated", "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	r := vdfs(t, "umount", mnt)
	f.Close()
	if r.code != 5 || !strings.Contains(r.stderr, "integration.tes") {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
}
