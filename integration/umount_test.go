package integration

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUmountKilled: umount says that a daemon was killed before all was on disk.
func TestUmountKilled(t *testing.T) {
	needTool(t, "qemu-img")
	m := newModel(16)
	img := m.image(t, t.TempDir(), "disk.vdi", "vdi")
	needFUSE(t)
	mnt := t.TempDir()
	must(t, "mount", "--rw", img, mnt)
	pid := daemon(t, mnt)
	disk := filepath.Join(mnt, "disk", "disk.raw")
	m.scribble(t, disk, 20)
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	syscall.Kill(pid, syscall.SIGKILL)
	for alive(pid) {
		time.Sleep(10 * time.Millisecond)
	}
	if r := vdfs(t, "umount", mnt); r.code != 7 || !strings.Contains(r.stderr, "vdfs check") || mounted(t, mnt) {
		t.Errorf("exit %d, %q, mounted %v", r.code, r.stderr, mounted(t, mnt))
	}
	m.asQEMU(t, img, "vdi") // everything was synced
}

// TestUmountFull: when what was written cannot be saved for want of space, umount
// says so and the mount stays until there is space, or force.
func TestUmountFull(t *testing.T) {
	needRoot(t)
	needTool(t, "qemu-img")
	needFUSE(t)
	m := newModel(17)
	img := m.image(t, t.TempDir(), "disk.vdi", "vdi")
	small := t.TempDir()
	tool(t, "mount", "-t", "tmpfs", "-o", "size=8m", "none", small)
	t.Cleanup(func() { command(noContext{t}, nil, "umount", small) })
	ballast := filepath.Join(small, "ballast")
	for _, force := range []bool{false, true} {
		mnt := t.TempDir()
		over := filepath.Join(small, "over.vdi")
		must(t, "mount", "--overlay", over, img, mnt)
		pid := daemon(t, mnt)
		f, err := os.OpenFile(filepath.Join(mnt, "disk", "disk.raw"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 512), 100); err != nil { // the image gets ready
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		fillUp(t, ballast, small, 256<<10)
		want := []byte("a little of a block the parent fills")
		if _, err := f.WriteAt(want, 4<<20+5000); err != nil {
			t.Fatal(err)
		}
		copy(m.content[4<<20+5000:], want)
		f.Close()
		if r := vdfs(t, "umount", mnt); r.code != 7 || !strings.Contains(r.stderr, "--force") || !mounted(t, mnt) {
			t.Errorf("exit %d, %q, mounted %v", r.code, r.stderr, mounted(t, mnt))
		}
		if force {
			if r := vdfs(t, "umount", "--force", mnt); r.code != 7 || mounted(t, mnt) || alive(pid) {
				t.Errorf("exit %d, %q, mounted %v", r.code, r.stderr, mounted(t, mnt))
			}
			break
		}
		clear(m.content[100:612])
		m.equals(t, filepath.Join(mnt, "disk", "disk.raw"))
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		unmount(t, mnt, pid)
		m.shows(t, "--parent", img, over)
		if err := os.Remove(over); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	must(t, "check", "--parent", img, filepath.Join(small, "over.vdi"))
}

// fillUp leaves so much space on a file system.
func fillUp(t testing.TB, path, on string, leave int64) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(on, &st); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, make([]byte, int64(st.Bavail)*st.Bsize-leave))
}

// TestUmountCopied: a mount namespace that was made meanwhile has a copy of the mount,
// which keeps its daemon. umount waits for the end of that, and tells how to bring it
// about.
func TestUmountCopied(t *testing.T) {
	needRoot(t)
	needFUSE(t)
	for _, name := range []string{"unshare", "nsenter"} {
		needTool(t, name)
	}
	mnt := mount(t, filepath.Join(demoChain(t), "base.vdi"))
	pid := daemon(t, mnt)
	other := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-euc", "echo made; read -r end || true")
	in, out := pipes(t, other)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "made\n" {
		t.Fatalf("%q, %v", line, err)
	}
	defer other.Wait()
	defer in.Close()
	umount := exec.Command(vdfsBinary, "umount", mnt)
	stderr, err := umount.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := umount.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stderr).ReadString('\n')
	_, advice, ok := strings.Cut(strings.TrimSpace(line), "take it away with: ")
	if !ok || !alive(pid) {
		t.Errorf("%q, %v, the daemon lives: %v", line, err, alive(pid))
		advice = "true"
		in.Close()
	}
	tool(t, "sh", "-c", advice)
	if err := umount.Wait(); err != nil || alive(pid) {
		t.Errorf("%v, the daemon lives: %v", err, alive(pid))
	}
}

// pipes starts a command with its input and output.
func pipes(t testing.TB, cmd *exec.Cmd) (io.WriteCloser, io.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return in, out
}
