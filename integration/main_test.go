package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var vdfsBinary string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if vdfsBinary = os.Getenv("VDFS_BIN"); vdfsBinary == "" {
		dir, err := os.MkdirTemp("", "vdfs-bin-")
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		vdfsBinary = filepath.Join(dir, "vdfs")
		build := exec.Command("go", "build", "-o", vdfsBinary, "vdfs")
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	return m.Run(), nil
}

// result is what one command line came to.
type result struct {
	stdout, stderr string
	code           int
}

// vdfs runs the binary and returns however it ends. It kills it after a minute:
// nothing here may hang.
func vdfs(t testing.TB, args ...string) result {
	t.Helper()
	return command(t, nil, vdfsBinary, args...)
}

func command(t testing.TB, setup func(*exec.Cmd), name string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.WaitDelay = 10 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if setup != nil {
		setup(cmd)
	}
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs the binary and expects it to succeed.
func must(t testing.TB, args ...string) string {
	t.Helper()
	r := vdfs(t, args...)
	if r.code != 0 {
		t.Fatalf("vdfs %v: exit %d\n%s", args, r.code, r.stderr)
	}
	return r.stdout
}

// tool runs a real tool and expects it to succeed; it skips the test without it.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	needTool(t, name)
	r := command(t, nil, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %v: exit %d\n%s%s", name, args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// skip ends a test that cannot run here. With VDFS_NO_SKIP set, as in CI, that is a
// failure: a green run then means that everything was tried.
func skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("VDFS_NO_SKIP") != "" {
		t.Fatalf("cannot run here, and VDFS_NO_SKIP is set: "+format, args...)
	}
	t.Skipf("SKIP: "+format, args...)
}

func needTool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		skip(t, "%s is not installed (make deps)", name)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root")
	}
}

func needFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		skip(t, "no FUSE here: %v", err)
	}
	f.Close()
	if os.Geteuid() != 0 {
		needTool(t, "fusermount3")
	}
}

// mount mounts with the given arguments before the mountpoint, which it returns.
// The test ends with the mount gone, and its daemon with it.
func mount(t testing.TB, args ...string) string {
	t.Helper()
	needFUSE(t)
	mnt := t.TempDir()
	mountAt(t, mnt, args...)
	return mnt
}

func mountAt(t testing.TB, mnt string, args ...string) result {
	t.Helper()
	r := vdfs(t, append(append([]string{"mount"}, args...), mnt)...)
	if r.code != 0 {
		t.Fatalf("mount %v: exit %d\n%s", args, r.code, r.stderr)
	}
	pid := daemon(t, mnt)
	t.Cleanup(func() { unmount(t, mnt, pid) })
	return r
}

// daemon is the process that serves a mount, as `list` tells it.
func daemon(t testing.TB, mnt string) int {
	t.Helper()
	var list struct {
		Mounts []struct {
			Mountpoint string `json:"mountpoint"`
			PID        int    `json:"pid"`
		} `json:"mounts"`
	}
	if err := json.Unmarshal([]byte(must(t, "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Mounts {
		if m.Mountpoint == mnt {
			return m.PID
		}
	}
	t.Fatalf("%s is not listed: %+v", mnt, list)
	return 0
}

// unmount takes a mount down and looks for what is left.
func unmount(t testing.TB, mnt string, pid int) {
	t.Helper()
	if mounted(t, mnt) {
		if r := command(noContext{t}, nil, vdfsBinary, "umount", mnt); r.code != 0 {
			t.Errorf("umount: exit %d\n%s", r.code, r.stderr)
		}
	}
	if mounted(t, mnt) {
		t.Errorf("%s is still mounted", mnt)
	}
	if alive(pid) {
		t.Errorf("the daemon, process %d, is still there after umount returned", pid)
	}
}

// alive reports whether a process runs; one that is over and waits to be reaped by
// a slow init does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func mounted(t testing.TB, mnt string) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), " "+mnt+" ")
}

// noContext lets clean-up run commands although the test's context is over.
type noContext struct{ testing.TB }

func (noContext) Context() context.Context { return context.Background() }

func sum(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
