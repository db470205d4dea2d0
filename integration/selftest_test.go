package integration

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vdfs/internal/selftest"
)

// verdicts are the results of selftest --json by their names.
func verdicts(t testing.TB, text string) map[string]selftest.Result {
	t.Helper()
	var out struct {
		OK     bool
		Checks []selftest.Result
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	all := map[string]selftest.Result{}
	for _, c := range out.Checks {
		all[c.Check] = c
		if out.OK && c.Outcome == selftest.Failed {
			t.Errorf("ok, and %v", c)
		}
	}
	return all
}

// TestSelftest: the promises are kept on every kind of file system an image may lie on,
// mounted so that each read without O_NOATIME shows, and nothing is left behind. Each is
// mounted in a mount namespace of its own, which takes it down.
func TestSelftest(t *testing.T) {
	needRoot(t)
	needFUSE(t)
	needTool(t, "unshare")
	onDevice := func(mkfs string) string {
		return "truncate -s 512M $dir/img; " + mkfs + " $dir/img >&2; mount -o loop,strictatime $dir/img $at; "
	}
	for name, script := range map[string]string{
		"ext4":  onDevice("mkfs.ext4 -q -F"),
		"xfs":   onDevice("mkfs.xfs -q"),
		"btrfs": onDevice("mkfs.btrfs -q"),
		"tmpfs": "mount -t tmpfs -o strictatime none $at; ",
		"overlayfs": "mount -t tmpfs none $dir; mkdir $dir/low $dir/up $dir/work; " +
			"mount -t overlay -o lowerdir=$dir/low,upperdir=$dir/up,workdir=$dir/work none $at; ",
		// An image that is there, on something that cannot be written to.
		"read-only bind mount": "cp $demo/*.vdi $dir; mount --bind $dir $at; mount -o remount,bind,ro,strictatime $at; at=$at/updated.vdi; ",
		"overlayfs lower layer": "mount -t tmpfs -o strictatime none $dir; mkdir $dir/low $dir/up $dir/work; cp $demo/*.vdi $dir/low; " +
			"mount -t overlay -o lowerdir=$dir/low,upperdir=$dir/up,workdir=$dir/work none $at; at=$at/updated.vdi; ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, word := range strings.Fields(script) {
				if strings.HasPrefix(word, "mkfs.") {
					needTool(t, word)
				}
			}
			dir, at := t.TempDir(), t.TempDir()
			script := unshareMounts + "\ndir=$1 at=$2 demo=$3; " + script + `exec "$4" selftest --json $at`
			r := command(t, nil, "unshare", "-m", "sh", "-ec", script, "sh", dir, at, demoChain(t), vdfsBinary)
			if r.code != 0 {
				t.Fatalf("exit %d: %s\n%s", r.code, r.stderr, r.stdout)
			}
			for _, c := range verdicts(t, r.stdout) {
				if c.Outcome != selftest.OK {
					t.Errorf("%v", c)
				}
			}
			if list, _ := filepath.Glob(filepath.Join(dir, "vdfs-selftest*")); len(list) > 0 {
				t.Errorf("left behind: %v", list)
			}
		})
	}
}

// TestSelftestFails: selftest sees promises that are not kept. A wrapper around the
// binary breaks them: it mounts for writing, and changes a parent meanwhile.
func TestSelftestFails(t *testing.T) {
	needRoot(t)
	needFUSE(t)
	dir := t.TempDir()
	wrapper := filepath.Join(t.TempDir(), "vdfs")
	writeFile(t, wrapper, []byte(`#!/bin/sh
case $1 in
mount) shift; `+vdfsBinary+` mount --rw "$@";;
umount) printf x | dd of=$(echo `+dir+`/vdfs-selftest-*/base.vdi) bs=1 seek=700 conv=notrunc status=none; `+vdfsBinary+` "$@";;
esac
`))
	if err := os.Chmod(wrapper, 0o755); err != nil {
		t.Fatal(err)
	}
	var failed []string
	err := selftest.Run(t.Context(), selftest.Options{Binary: wrapper, Where: dir, Tell: func(r selftest.Result) {
		if r.Outcome == selftest.Failed {
			failed = append(failed, r.Check)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"mount table says read-only", "image files are open for reading only", "open for writing", "unmount", "image files: content", "image files: change time", "image files: modification time",
	} {
		if !slices.Contains(failed, want) {
			t.Errorf("%q is said to be kept; not kept: %q", want, failed)
		}
	}
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("left behind: %v", list)
	}
}

// TestSelftestUnprivileged: without being root less is tried, and that is said.
func TestSelftestUnprivileged(t *testing.T) {
	needRoot(t)
	needFUSE(t)
	needTool(t, "fusermount3")
	const nobody = 65534
	if st, err := os.Stat("/dev/fuse"); err != nil || st.Mode().Perm()&0o006 != 0o006 {
		skip(t, "/dev/fuse is not open to all users here (chmod 0666 /dev/fuse)")
	}
	dir, err := os.MkdirTemp("", "vdfs-nobody-") // the test's own is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bin := filepath.Join(dir, "vdfs")
	tool(t, "cp", vdfsBinary, bin)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	r := command(t, func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		c.Env = append(os.Environ(), "TMPDIR="+dir)
	}, bin, "selftest", "--json", dir)
	if r.code != 0 {
		t.Fatalf("exit %d: %s\n%s", r.code, r.stderr, r.stdout)
	}
	for name, c := range verdicts(t, r.stdout) {
		skips := name == "remounted read-write" || name == "write through a loop device"
		if skips != (c.Outcome == selftest.Skipped) {
			t.Errorf("%v", c)
		}
	}
}

// TestSelftestRefused: what cannot be tried is an error, not a result.
func TestSelftestRefused(t *testing.T) {
	needFUSE(t)
	dir := t.TempDir()
	for where, code := range map[string]int{filepath.Join(dir, "none"): 2, "/dev/null": 2} {
		if r := vdfs(t, "selftest", where); r.code != code || r.stdout != "" {
			t.Errorf("%s: exit %d, %s%s", where, r.code, r.stdout, r.stderr)
		}
	}
}

// TestSelftestCutShort: a reader that does not want all lines leaves no mount behind.
func TestSelftestCutShort(t *testing.T) {
	needFUSE(t)
	dir := t.TempDir()
	r := command(t, func(c *exec.Cmd) { c.Env = append(os.Environ(), "TMPDIR="+dir) },
		"sh", "-c", `"$0" selftest "$1" | head -n 1`, vdfsBinary, dir)
	if strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("%q", r.stdout)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if mounts := tool(t, "cat", "/proc/mounts"); strings.Contains(mounts, dir) {
		t.Error(mounts)
	}
}
