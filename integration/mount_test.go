package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const demoHash = "f4b175eedb2e58e5df418defe8dd0b6498c912538945f75ac5233f28a617b9ec"

// TestReadOnly: every change is refused with EROFS, and /proc/mounts says ro.
func TestReadOnly(t *testing.T) {
	img := filepath.Join(demoChain(t), "updated.vdi")
	mnt := mount(t, img)
	disk := filepath.Join(mnt, "updated", "disk.raw")
	for name, op := range map[string]func() error{
		"open for writing": func() error { _, err := os.OpenFile(disk, os.O_RDWR, 0); return err },
		"truncate":         func() error { return os.Truncate(disk, 0) },
		"remove":           func() error { return os.Remove(disk) },
		"rename":           func() error { return os.Rename(disk, disk+"2") },
		"create":           func() error { _, err := os.Create(filepath.Join(mnt, "updated", "new")); return err },
		"mkdir":            func() error { return os.Mkdir(filepath.Join(mnt, "new"), 0o755) },
		"chmod":            func() error { return os.Chmod(disk, 0o777) },
		"setxattr":         func() error { return unix.Setxattr(disk, "user.x", []byte("y"), 0) },
	} {
		if err := op(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
	line := mountLine(t, mnt)
	for _, word := range []string{img, "fuse.vdfs", "ro,"} {
		if !strings.Contains(line, word) {
			t.Errorf("/proc/mounts has no %q in %q", word, line)
		}
	}
}

func mountLine(t *testing.T, mnt string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, " "+mnt+" ") {
			return line
		}
	}
	t.Fatalf("%s is not in /proc/mounts", mnt)
	return ""
}

// TestTree: what stands below the mountpoint, and what stat says of it.
func TestTree(t *testing.T) {
	img := filepath.Join(demoChain(t), "updated.vdi")
	mnt := mount(t, img)
	var names []string
	inodes := map[uint64]string{}
	err := filepath.WalkDir(mnt, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(mnt, p)
		names = append(names, rel)
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		ino := st.Sys().(*syscall.Stat_t).Ino
		if other, ok := inodes[ino]; ok {
			t.Errorf("%s and %s have inode %d", rel, other, ino)
		}
		inodes[ino] = rel
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := ". updated updated/disk.raw updated/info.json updated/p1.raw updated/snapshots" +
		" updated/snapshots/0-base updated/snapshots/0-base/p1.raw updated/snapshots/0-base.raw" +
		" updated/snapshots/1-installed updated/snapshots/1-installed/p1.raw updated/snapshots/1-installed.raw" +
		" updated/snapshots/2-configured updated/snapshots/2-configured/p1.raw updated/snapshots/2-configured.raw"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("tree: %s", got)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(mnt, &st); err != nil || st.Blocks == 0 || st.Bsize == 0 {
		t.Errorf("statfs: %+v, %v", st, err)
	}
	again := mount(t, img)
	for ino, name := range inodes {
		st, err := os.Lstat(filepath.Join(again, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := st.Sys().(*syscall.Stat_t).Ino; got != ino {
			t.Errorf("%s: inode %d in one mount, %d in the next", name, ino, got)
		}
	}
}

// TestInfoJSON: the mount's own description and `info --json` agree.
func TestInfoJSON(t *testing.T) {
	img := filepath.Join(demoChain(t), "updated.vdi")
	mnt := mount(t, img)
	b, err := os.ReadFile(filepath.Join(mnt, "updated", "info.json"))
	if err != nil {
		t.Fatal(err)
	}
	type layers struct {
		Capacity int64
		Layers   []json.RawMessage
	}
	var inMount, fromInfo layers
	parse(t, string(b), &inMount)
	parse(t, must(t, "info", "--json", img), &fromInfo)
	if inMount.Capacity != 64<<20 || len(inMount.Layers) != 4 || len(fromInfo.Layers) != 4 {
		t.Errorf("%+v\n%+v", inMount, fromInfo)
	}
	for i := range inMount.Layers {
		var a, b any
		parse(t, string(inMount.Layers[i]), &a)
		parse(t, string(fromInfo.Layers[i]), &b)
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		if !bytes.Equal(x, y) {
			t.Errorf("layer %d differs:\n%s\n%s", i, x, y)
		}
	}
}

// TestSeek: SEEK_DATA and SEEK_HOLE through the mount, and the blocks stat tells,
// agree with the bytes.
func TestSeek(t *testing.T) {
	mnt := mount(t, filepath.Join(demoChain(t), "updated.vdi"))
	f, err := os.Open(filepath.Join(mnt, "updated", "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	size, data := int64(len(content)), int64(0)
	for at := int64(0); at < size; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			start = size
		} else if err != nil {
			t.Fatal(err)
		}
		if len(bytes.Trim(content[at:start], "\x00")) > 0 {
			t.Fatalf("[%d,%d) is called a hole and holds data", at, start)
		}
		if at = start; at == size {
			break
		}
		if at, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		data += at - start
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if blocks := st.Sys().(*syscall.Stat_t).Blocks; blocks*512 != data || data == 0 || data == size {
		t.Errorf("%d blocks, %d bytes of data of %d", blocks, data, size)
	}
	if _, err := unix.Seek(int(f.Fd()), size, unix.SEEK_DATA); !errors.Is(err, unix.ENXIO) {
		t.Errorf("seeking at the end: %v", err)
	}
}

// TestFileMountpoint: a regular file as mountpoint shows the disk itself.
func TestFileMountpoint(t *testing.T) {
	needFUSE(t)
	img := filepath.Join(demoChain(t), "updated.vdi")
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mountAt(t, file, img)
	check(t, file, 64<<20, demoHash)
	if r := vdfs(t, "mount", img, img, file); r.code == 0 {
		t.Error("two disks were mounted on one file")
	}
}

// TestSeveral: several images in one mount, also of the same name.
func TestSeveral(t *testing.T) {
	one, two := demoChain(t), demoChain(t)
	raw := filepath.Join(one, "plain.raw")
	if err := os.WriteFile(raw, []byte("a plain disk of odd size"), 0o600); err != nil {
		t.Fatal(err)
	}
	mnt := mount(t, filepath.Join(one, "updated.vdi"), filepath.Join(two, "updated.vdi"), raw)
	for _, name := range []string{"updated", "updated-2"} {
		check(t, filepath.Join(mnt, name, "disk.raw"), 64<<20, demoHash)
	}
	if b, err := os.ReadFile(filepath.Join(mnt, "plain", "disk.raw")); string(b) != "a plain disk of odd size" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestPipe: a caller that reads the output of `mount` is not held up by the daemon.
func TestPipe(t *testing.T) {
	needFUSE(t)
	img, mnt := filepath.Join(demoChain(t), "updated.vdi"), t.TempDir()
	r := command(t, nil, "sh", "-c", `out=$("$0" mount "$1" "$2" 2>&1); echo "got:$out"`, vdfsBinary, img, mnt)
	pid := daemon(t, mnt)
	defer unmount(t, mnt, pid)
	if r.code != 0 || !strings.HasPrefix(r.stdout, "got:") {
		t.Errorf("%+v", r)
	}
}

// TestForeground: -f stays, serves, and ends cleanly with a signal.
func TestForeground(t *testing.T) {
	needFUSE(t)
	img, mnt := filepath.Join(demoChain(t), "updated.vdi"), t.TempDir()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		cmd := exec.Command(vdfsBinary, "-v", "mount", "-f", img, mnt)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		ready := make([]byte, 1)
		if _, err := stderr.Read(ready); err != nil { // -v says when the mount answers
			t.Fatal(err)
		}
		go io.Copy(io.Discard, stderr)
		check(t, filepath.Join(mnt, "updated", "disk.raw"), 64<<20, demoHash)
		cmd.Process.Signal(sig)
		if err := cmd.Wait(); err != nil || mounted(t, mnt) {
			t.Errorf("%v: %v, mounted %v", sig, err, mounted(t, mnt))
		}
	}
}

// TestUnprivileged: a user without rights mounts through fusermount3.
func TestUnprivileged(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	needTool(t, "fusermount3")
	const nobody = 65534
	if st, err := os.Stat("/dev/fuse"); err != nil || st.Mode().Perm()&0o006 != 0o006 {
		skip(t, "/dev/fuse is not open to all users here (chmod 0666 /dev/fuse)")
	}
	dir := demoChain(t)
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(mnt, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "vdfs") // the built one may lie where nobody can go
	tool(t, "cp", vdfsBinary, bin)
	as := func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		c.Dir = "/"
	}
	if r := command(t, as, bin, "mount", filepath.Join(dir, "updated.vdi"), mnt); r.code != 0 {
		t.Fatalf("mount: exit %d\n%s", r.code, r.stderr)
	}
	defer func() {
		if r := command(noContext{t}, as, bin, "umount", mnt); r.code != 0 {
			t.Errorf("umount: exit %d\n%s", r.code, r.stderr)
		}
	}()
	r := command(t, as, "sha256sum", filepath.Join(mnt, "updated", "disk.raw"))
	if !strings.HasPrefix(r.stdout, demoHash) {
		t.Errorf("%+v", r)
	}
	r = command(t, as, "cat", filepath.Join(mnt, "updated", "info.json"))
	if !strings.Contains(r.stdout, `"taken": "requests"`) || !strings.Contains(r.stdout, "only root") {
		t.Errorf("info.json does not say why the daemon answers: %s", r.stdout)
	}
	if _, err := os.ReadDir(mnt); err == nil {
		t.Error("root reads a mount made without allow_other")
	}
}

// TestOptions: -o words change what stat says.
func TestOptions(t *testing.T) {
	needRoot(t)
	img := filepath.Join(demoChain(t), "updated.vdi")
	mnt := mount(t, "-o", "allow_other,uid=1234,gid=5678,umask=027,ro,noauto", img)
	st, err := os.Stat(filepath.Join(mnt, "updated", "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	sys := st.Sys().(*syscall.Stat_t)
	if sys.Uid != 1234 || sys.Gid != 5678 || st.Mode().Perm() != 0o440 {
		t.Errorf("%d:%d %v", sys.Uid, sys.Gid, st.Mode())
	}
	for _, bad := range []string{"ro,rw", "uid=x", "umask=9", "nonsense"} {
		if r := vdfs(t, "mount", "-o", bad, img, t.TempDir()); r.code != 1 || r.stderr == "" {
			t.Errorf("-o %s: exit %d, %q", bad, r.code, r.stderr)
		}
	}
}
