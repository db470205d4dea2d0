package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vdfs/vdcore/vdtest"
)

// needKernelPath skips where the kernel cannot read a chain by itself: not as an
// unprivileged user, nor before Linux 6.12.
func needKernelPath(t *testing.T) {
	t.Helper()
	needRoot(t)
	needFUSE(t)
	mnt := t.TempDir()
	r := vdfs(t, "mount", "--kernel-reads=require", filepath.Join(demoChain(t), "updated.vdi"), mnt)
	if r.code != 0 {
		skip(t, "the kernel path does not work here: %s", r.stderr)
	}
	must(t, "umount", mnt)
}

// pathTaken is what info.json says of the disk.
func pathTaken(t *testing.T, folder string) string {
	t.Helper()
	var info struct {
		Path struct{ Taken, Reason string }
	}
	b, err := os.ReadFile(filepath.Join(folder, "info.json"))
	if err == nil {
		err = json.Unmarshal(b, &info)
	}
	if err != nil || info.Path.Reason == "" {
		t.Errorf("info.json: %v, %+v", err, info)
	}
	return info.Path.Taken
}

// TestKernelGolden: every golden chain is right through the kernel, for eight readers,
// a loop device and one reader by O_DIRECT at once, before and after the caches are
// dropped; and all its lower states are.
func TestKernelGolden(t *testing.T) {
	needKernelPath(t)
	for _, c := range vdtest.Cases(t) {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			dir := unpack(t, c.Archive)
			top := filepath.Join(dir, c.Layers[0].File)
			mnt := mount(t, "--kernel-reads=require", top)
			folder := filepath.Join(mnt, stem(top))
			disk := filepath.Join(folder, "disk.raw")
			for _, pass := range []string{"first", "again"} {
				if pass == "again" && c.Layers[0].Capacity > large {
					break
				}
				t.Run(pass, func(t *testing.T) { together(t, disk, c.Layers[0].Capacity, c.Layers[0].SHA256) })
				dropPages(t, disk, dir)
			}
			if taken := pathTaken(t, folder); taken != "kernel" && taken != "passthrough" {
				t.Errorf("read by %s", taken)
			}
			for i, l := range c.Layers[1:] {
				n := len(c.Layers) - 2 - i
				check(t, filepath.Join(folder, "snapshots", fmt.Sprintf("%d-%s.raw", n, stem(l.File))), l.Capacity, l.SHA256)
			}
		})
	}
}

// large is a disk of holes mostly, bytes, hashing which takes its time.
const large = 1 << 30

// together reads a disk in many ways at once.
func together(t *testing.T, disk string, capacity int64, hash string) {
	t.Helper()
	held, err := os.Open(disk) // so that all that follow are read in the same way
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	dev := attach(t, disk)
	var all sync.WaitGroup
	readers := 8
	if capacity > large {
		readers = 2
	}
	for range readers {
		all.Go(func() { check(t, disk, capacity, hash) })
	}
	if capacity <= large {
		all.Go(func() { checkDirect(t, disk, capacity, hash) })
	}
	all.Go(func() {
		if capacity%512 == 0 { // a loop device has whole sectors only
			if got := sum(t, dev); got != hash {
				t.Errorf("the loop device reads %s, want %s", got, hash)
			}
		}
	})
	all.Wait()
}

// checkDirect reads by O_DIRECT, which the kernel's map cannot do.
func checkDirect(t *testing.T, disk string, capacity int64, hash string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "direct")
	if r := command(t, nil, "dd", "if="+disk, "of="+out, "bs=1M", "iflag=direct", "status=none"); r.code != 0 {
		t.Errorf("O_DIRECT beside others: %s", r.stderr)
		return
	}
	check(t, out, capacity, hash)
}

// dropPages has the kernel forget what it has of a disk, and of the files in a folder.
func dropPages(t *testing.T, disk, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, disk) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil && !strings.Contains(err.Error(), "invalid") {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
}

// TestKernelOff: turned off, everything is read by request and right, and info.json
// says so.
func TestKernelOff(t *testing.T) {
	mnt := mount(t, "--kernel-reads=off", filepath.Join(demoChain(t), "updated.vdi"))
	check(t, filepath.Join(mnt, "updated", "disk.raw"), 64<<20, demoHash)
	if taken := pathTaken(t, filepath.Join(mnt, "updated")); taken != "requests" {
		t.Errorf("read by %s", taken)
	}
}

// TestKernelNothingLeft: the mount with the map is to be seen nowhere, neither while it
// is in use nor afterwards, and with it the file system of the images is free again;
// also when the daemon was killed, or the mount failed.
func TestKernelNothingLeft(t *testing.T) {
	needKernelPath(t)
	host := strict(t)
	dir := filepath.Join(host, "images")
	vdtest.Unpack(t, "demo.tar.gz", dir)
	top := filepath.Join(dir, "updated.vdi")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)

	mnt := t.TempDir()
	must(t, "mount", "--kernel-reads=require", top, mnt)
	check(t, filepath.Join(mnt, "updated", "disk.raw"), 64<<20, demoHash)
	nothingShows(t, tmp)
	must(t, "umount", mnt)
	nothingShows(t, tmp)

	must(t, "mount", "--kernel-reads=require", top, mnt)
	pid := daemon(t, mnt)
	check(t, filepath.Join(mnt, "updated", "disk.raw"), 64<<20, demoHash)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	vdfs(t, "umount", mnt) // its exit code says that the daemon was gone
	nothingShows(t, tmp)

	if r := vdfs(t, "mount", "--kernel-reads=require", top, top); r.code == 0 {
		t.Fatal("an image as mountpoint")
	}
	nothingShows(t, tmp)
	if r := command(t, nil, "umount", host); r.code != 0 {
		t.Errorf("something still holds the images: %s", r.stderr)
	}
}

func nothingShows(t *testing.T, tmp string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(b), " erofs ") {
		t.Errorf("an EROFS mount shows (%v):\n%s", err, b)
	}
	if list, err := os.ReadDir(tmp); err != nil || len(list) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", list, err)
	}
}

// TestKernelRequired: what the kernel cannot read is refused, with the reason, and
// read by request if it need not be the kernel.
func TestKernelRequired(t *testing.T) {
	needKernelPath(t)
	dir := demoChain(t)
	if err := os.Remove(filepath.Join(dir, "base.vdi")); err != nil {
		t.Fatal(err)
	}
	mnt, top := t.TempDir(), filepath.Join(dir, "updated.vdi")
	r := vdfs(t, "mount", "--kernel-reads=require", "--allow-incomplete", top, mnt)
	if r.code != 6 || !strings.Contains(r.stderr, "lost") || mounted(t, mnt) {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	mountAt(t, mnt, "--allow-incomplete", "--fill=zero", top)
	out := filepath.Join(t.TempDir(), "out")
	must(t, "copy", "--allow-incomplete", "--fill=zero", top, out)
	if a, b := sum(t, filepath.Join(mnt, "updated", "disk.raw")), sum(t, out); a != b {
		t.Errorf("with --fill=zero the mount reads %s, copy %s", a, b)
	}
	if r := vdfs(t, "mount", "--kernel-reads=sometimes", top, t.TempDir()); r.code != 1 || !strings.Contains(r.stderr, "require") {
		t.Errorf("no such word: exit %d, %s", r.code, r.stderr)
	}
}
