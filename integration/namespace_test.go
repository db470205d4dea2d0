package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// house is a mount namespace that has the binary where mount(8) looks for its helpers,
// and an /etc/fstab of its own. What runs in it sees the rest of the machine as it is.
type house struct {
	testing.TB
	pid   int
	dir   string // for images and mountpoints; anybody may enter
	fstab string
	enter []string // more namespaces of pid to be in, as nsenter's options
}

// unshareMounts takes the copies of other tests' mounts out of a new namespace: they
// would live on in it.
const unshareMounts = `
grep ' fuse\.vdfs ' /proc/self/mounts | cut -d' ' -f2 | while read -r m; do umount -l "$(printf %b "$m")"; done`

// furnish lays folders over those of the machine: what $1 holds over /usr/sbin and
// /usr/bin, and the fstab of $2. Then it keeps the namespace until its input ends.
const furnish = unshareMounts + `
mount -t overlay vdfs-test -o "lowerdir=$1:/usr/sbin" /usr/sbin
mount -t overlay vdfs-test -o "lowerdir=$1:/usr/bin" /usr/bin
mount --bind "$2" /etc/fstab
echo furnished
read -r end || true`

// newHouse needs root. helpers are the names the binary has there.
func newHouse(t testing.TB, helpers ...string) *house {
	t.Helper()
	needRoot(t)
	needFUSE(t)
	for _, name := range []string{"unshare", "nsenter", "mount", "umount"} {
		needTool(t, name)
	}
	if _, err := os.Stat("/etc/fstab"); err != nil {
		skip(t, "there is no /etc/fstab to lay another one over: %v", err)
	}
	h := &house{TB: t, dir: openDir(t)}
	h.fstab = filepath.Join(h.dir, "fstab")
	bin := filepath.Join(h.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(helpers, "vdfs") {
		tool(t, "cp", vdfsBinary, filepath.Join(bin, name))
	}
	h.write()
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-euc", furnish, "sh", bin, h.fstab)
	cmd.Stderr = os.Stderr
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
	h.pid = cmd.Process.Pid
	t.Cleanup(func() { h.leave(cmd, in) })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "furnished\n" {
		skip(t, "no mount namespace with overlays here")
	}
	return h
}

// openDir is a temporary folder every user may enter.
func openDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// leave unmounts whatever a failed test has left: its daemons would keep the
// namespace, and live on.
func (h *house) leave(cmd *exec.Cmd, in io.Closer) {
	for _, mnt := range h.mounts() {
		h.Errorf("%s is still mounted", mnt)
		h.command("umount", mnt)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		h.Error(err)
	}
}

// write gives the house an fstab of these lines.
func (h *house) write(lines ...string) {
	h.Helper()
	f, err := os.OpenFile(h.fstab, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) // the same file: it is bound
	if err == nil {
		_, err = io.WriteString(f, strings.Join(lines, "\n")+"\n")
		f.Close()
	}
	if err != nil {
		h.Fatal(err)
	}
}

// folder makes an empty one to mount on.
func (h *house) folder(name string) string {
	h.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		h.Fatal(err)
	}
	return path
}

func (h *house) command(name string, args ...string) result {
	h.Helper()
	return command(noContext{h}, nil, "nsenter", append(append(h.nsenter(), name), args...)...)
}

// as runs a command as another user.
func (h *house) as(uid uint32, name string, args ...string) result {
	h.Helper()
	enter := append(h.nsenter(), "setpriv", fmt.Sprint("--reuid=", uid), fmt.Sprint("--regid=", uid), "--clear-groups", name)
	return command(noContext{h}, nil, "nsenter", append(enter, args...)...)
}

func (h *house) nsenter() []string {
	return append([]string{"-t", strconv.Itoa(h.pid), "-m"}, h.enter...)
}

// must runs a command in the house that is to succeed.
func (h *house) must(name string, args ...string) string {
	h.Helper()
	r := h.command(name, args...)
	if r.code != 0 {
		h.Fatalf("%s %v: exit %d\n%s%s", name, args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// mounts are those of vdfs in the house, the last one first.
func (h *house) mounts() (list []string) {
	h.Helper()
	for line := range strings.Lines(h.table()) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "fuse.vdfs" {
			list = append([]string{strings.ReplaceAll(f[1], `\040`, " ")}, list...)
		}
	}
	return list
}

func (h *house) table() string {
	h.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", h.pid))
	if err != nil {
		h.Fatal(err)
	}
	return string(b)
}

// line is what the mount table says of a mountpoint.
func (h *house) line(mnt string) string {
	h.Helper()
	for line := range strings.Lines(h.table()) {
		if f := strings.Fields(line); f[1] == mnt {
			return line
		}
	}
	return ""
}

// hash is that of a file as seen in the house.
func (h *house) hash(path string) string {
	h.Helper()
	sum, _, _ := strings.Cut(h.must("sha256sum", path), " ")
	return strings.TrimPrefix(sum, `\`)
}
