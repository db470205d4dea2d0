package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager listens like a service manager does.
func manager(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return path, func() string {
		t.Helper()
		buf := make([]byte, 4096)
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

// TestNotify: a service manager hears when the mount answers, and when it ends.
func TestNotify(t *testing.T) {
	needFUSE(t)
	img, mnt := filepath.Join(demoChain(t), "updated.vdi"), t.TempDir()
	socket, next := manager(t)
	cmd := exec.Command(vdfsBinary, "mount", "--foreground", img, mnt)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if got := next(); !strings.Contains(got, "READY=1\n") || !strings.Contains(got, fmt.Sprintf("MAINPID=%d\n", cmd.Process.Pid)) || !strings.Contains(got, mnt) {
		t.Errorf("ready: %q", got)
	}
	check(t, filepath.Join(mnt, "updated", "disk.raw"), 64<<20, demoHash)
	cmd.Process.Signal(syscall.SIGTERM)
	if got := next(); !strings.HasPrefix(got, "STOPPING=1") {
		t.Errorf("at the end: %q", got)
	}
	if err := cmd.Wait(); err != nil || mounted(t, mnt) {
		t.Errorf("%v, mounted %v", err, mounted(t, mnt))
	}
}

// TestNotifyDaemon: a daemon says which process it is.
func TestNotifyDaemon(t *testing.T) {
	needFUSE(t)
	img, mnt := filepath.Join(demoChain(t), "updated.vdi"), t.TempDir()
	socket, next := manager(t)
	t.Setenv("NOTIFY_SOCKET", socket)
	mountAt(t, mnt, img)
	if got := next(); !strings.Contains(got, fmt.Sprintf("MAINPID=%d\n", daemon(t, mnt))) {
		t.Errorf("%q", got)
	}
}

// TestPIDFile: it holds the daemon's number, is refused while that lives, replaced when
// it does not, and gone at the end.
func TestPIDFile(t *testing.T) {
	needFUSE(t)
	img, file := filepath.Join(demoChain(t), "updated.vdi"), filepath.Join(t.TempDir(), "vdfs.pid")
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil { // another process has this number now
		t.Fatal(err)
	}
	mnt := mount(t, "--pid-file", file, img)
	b, err := os.ReadFile(file)
	if err != nil || string(b) != strconv.Itoa(daemon(t, mnt))+"\n" {
		t.Errorf("%q, %v", b, err)
	}
	other := t.TempDir()
	if r := vdfs(t, "mount", "--pid-file", file, img, other); r.code != 5 || !strings.Contains(r.stderr, strconv.Itoa(daemon(t, mnt))) {
		t.Errorf("a pid file in use: exit %d\n%s", r.code, r.stderr)
	}
	must(t, "umount", mnt)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the pid file is left: %v", err)
	}
	if r := vdfs(t, "mount", "--pid-file", img, img, other); r.code != 1 {
		t.Errorf("an image as pid file: exit %d\n%s", r.code, r.stderr)
	}
	must(t, "check", img)
	if r := vdfs(t, "mount", "--pid-file", file, img+".not", other); r.code != 2 {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a mount that failed has left its pid file: %v", err)
	}
}

// TestStale: a killed daemon's mount is listed as such, mounting there says what to do,
// and umount does it.
func TestStale(t *testing.T) {
	img, file := filepath.Join(demoChain(t), "updated.vdi"), filepath.Join(t.TempDir(), "vdfs.pid")
	mnt := mount(t, "--pid-file", file, img)
	kill(t, daemon(t, mnt))
	if out := must(t, "list"); !strings.Contains(out, mnt) || !strings.Contains(out, "stale") {
		t.Errorf("list: %s", out)
	}
	if r := vdfs(t, "mount", img, mnt); r.code != 5 || !strings.Contains(r.stderr, "vdfs umount "+mnt) {
		t.Errorf("mount: exit %d\n%s", r.code, r.stderr)
	}
	must(t, "umount", mnt)
	mountAt(t, mnt, "--pid-file", file, img)
}

// kill ends a process without a chance, and returns when it is over.
func kill(t testing.TB, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	await(t, fd)
}

// atoi is the number in a file.
func atoi(t testing.TB, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// await returns when the process of a pidfd is over.
func await(t testing.TB, pidfd int) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 60_000)
		switch {
		case err == unix.EINTR:
		case err != nil || n == 0:
			t.Fatalf("the process does not end: %v", err)
		default:
			return
		}
	}
}

// watcherOf is a pidfd of the process that waits for a daemon's end.
func watcherOf(t testing.TB, mnt string) int {
	t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		b, err := os.ReadFile(line)
		if err != nil || !strings.HasPrefix(string(b), "vdfs\x00auto-unmount\x00--\x00"+mnt+"\x00") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(line)))
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	t.Fatalf("nobody watches over %s", mnt)
	return -1
}

// TestAutoUnmount: the mount of a killed daemon goes, and that of another one stays;
// who watches goes with the daemon that ends well.
func TestAutoUnmount(t *testing.T) {
	img := filepath.Join(demoChain(t), "updated.vdi")
	for _, how := range []string{"killed", "unmounted", "replaced"} {
		t.Run(how, func(t *testing.T) {
			mnt := mount(t, "-o", "auto-unmount", img)
			watcher := watcherOf(t, mnt)
			defer unix.Close(watcher)
			switch how {
			case "killed":
				kill(t, daemon(t, mnt))
			case "unmounted":
				must(t, "umount", mnt)
			case "replaced":
				must(t, "umount", mnt)
				mountAt(t, mnt, img)
			}
			await(t, watcher)
			if mounted(t, mnt) != (how == "replaced") {
				t.Errorf("mounted: %v", mounted(t, mnt))
			}
		})
	}
}
