package integration

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// change is something done to an image file while it is mounted, and what is to be said
// of it.
type imageChange struct {
	name string
	do   func(t *testing.T, path string)
	what []string
}

var imageChanges = []imageChange{
	{"one byte, and the time set back", func(t *testing.T, path string) {
		was := stat(t, path)
		flip(t, path, was.Size/2)
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{unix.Timespec(was.Atim), unix.Timespec(was.Mtim)}, 0); err != nil {
			t.Fatal(err)
		}
	}, []string{"ctime"}},
	{"one byte", func(t *testing.T, path string) { flip(t, path, stat(t, path).Size/2) }, []string{"mtime", "ctime"}},
	{"longer", func(t *testing.T, path string) {
		if err := os.Truncate(path, stat(t, path).Size+512); err != nil {
			t.Fatal(err)
		}
	}, []string{"size", "mtime", "ctime"}},
	{"replaced by a copy", func(t *testing.T, path string) {
		tool(t, "cp", "-p", path, path+".copy")
		if err := os.Rename(path+".copy", path); err != nil {
			t.Fatal(err)
		}
	}, []string{"identity"}},
	{"removed", func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}, []string{"gone"}},
	{"mode", func(t *testing.T, path string) {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}, []string{"ctime"}},
}

// TestChangedWhileMounted: whatever is done to any file of a chain while it is mounted,
// unmounting ends with exit code 8 and names the file; info.json and the audit file tell
// the same.
func TestChangedWhileMounted(t *testing.T) {
	for i, archive := range []string{"demo.tar.gz", "vmdk-flat.tar.gz", "vmdk-split.tar.gz"} {
		for n, c := range imageChanges {
			t.Run(archive+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				dir := unpack(t, archive)
				top := topOf(t, dir, archive)
				_, files := manifestOf(t, top, "--files")
				file := files[(i+n)%len(files)]
				audit := filepath.Join(t.TempDir(), "audit")
				mnt := mount(t, "--audit", audit, top)
				if got := changedIn(t, mnt, top); len(got) != 0 {
					t.Errorf("changed before: %v", got)
				}
				c.do(t, file)
				if got := changedIn(t, mnt, top); len(got) != 1 || got[0].File != file || !slices.Equal(got[0].What, c.what) {
					t.Errorf("info.json has %v, want %s: %v", got, file, c.what)
				}
				r := vdfs(t, "umount", mnt)
				if r.code != 8 || !strings.Contains(r.stderr, file) || mounted(t, mnt) {
					t.Errorf("umount: exit %d, %s", r.code, r.stderr)
				}
				lines := auditLines(t, audit)
				said := linesOf(lines, "changed")
				if len(said) != 1 || said[0].File != file || !slices.Equal(said[0].What, c.what) {
					t.Errorf("the audit file has %+v", said)
				}
				if last := lines[len(lines)-1]; last.Event != "end" || last.ExitCode != 8 || len(last.Changed) != 1 || last.Changed[0].File != file {
					t.Errorf("its last line is %+v", last)
				}
			})
		}
	}
}

// changedFile is an entry of "changed".
type changedFile struct {
	File string
	What []string
}

// changedIn is what info.json has.
func changedIn(t testing.TB, mnt, image string) []changedFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(mnt, stem(image), "info.json"))
	var info struct{ Changed []changedFile }
	if err = errors.Join(err, json.Unmarshal(text, &info)); err != nil || info.Changed == nil {
		t.Fatalf("info.json: %v: %s", err, text)
	}
	return info.Changed
}

// TestChangedForeground: the process of a mount in front ends with the code, too, whoever
// ends the mount.
func TestChangedForeground(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	for _, signal := range []bool{false, true} {
		dir := demoChain(t)
		mnt := t.TempDir()
		cmd := exec.Command(vdfsBinary, "mount", "-f", filepath.Join(dir, "updated.vdi"), mnt)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		awaitMount(t, mnt)
		if err := os.Chmod(filepath.Join(dir, "base.vdi"), 0o600); err != nil {
			t.Fatal(err)
		}
		if signal {
			cmd.Process.Signal(unix.SIGTERM)
		} else {
			leave(t, mnt) // umount(8)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 8 {
			t.Errorf("by signal %v: exit %d, want 8", signal, code)
		}
	}
}

func awaitMount(t testing.TB, mnt string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !mounted(t, mnt); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is not mounted", mnt)
		}
	}
}

// TestChangedByUs: what the mount itself writes is no change, and what others do to the
// parents is.
func TestChangedByUs(t *testing.T) {
	for _, way := range []string{"rw", "overlay", "tmp"} {
		for _, meddle := range []bool{false, true} {
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				dir := demoChain(t)
				top := filepath.Join(dir, "updated.vdi")
				manifest, _ := manifestOf(t, top, "--files")
				audit := filepath.Join(dir, "audit")
				args := map[string][]string{
					"rw":      {"--rw", top},
					"overlay": {"--overlay", filepath.Join(dir, "over.vmdk"), "--verify", manifest, top},
					"tmp":     {"--overlay", "tmp", "--verify", manifest, top},
				}[way]
				mnt := mount(t, append([]string{"--audit", audit}, args...)...)
				change(t, filepath.Join(mnt, "updated", "disk.raw"), make([]byte, 300000), 1000000)
				code := 0
				if meddle {
					code = 8
					flip(t, filepath.Join(dir, "base.vdi"), 1<<20)
				}
				r := vdfs(t, "umount", mnt)
				if r.code != code || meddle && !strings.Contains(r.stderr, "base.vdi") {
					t.Errorf("meddled %v: exit %d, %s", meddle, r.code, r.stderr)
				}
				if meddle && way != "rw" && !strings.Contains(r.stderr, "sha256") {
					t.Errorf("the manifest has nothing against it: %s", r.stderr)
				}
				lines := auditLines(t, audit)
				last := lines[len(lines)-1]
				if len(last.Written) != 1 || last.Written[0].File != "updated/disk.raw" || last.Written[0].Written != 300000 {
					t.Errorf("written: %+v", last.Written)
				}
			})
		}
	}
}

// TestVerifyRW: what a writable mount is for is not to be compared.
func TestVerifyRW(t *testing.T) {
	top := filepath.Join(demoChain(t), "updated.vdi")
	manifest, _ := manifestOf(t, top, "--files")
	if r := vdfs(t, "mount", "--rw", "--verify", manifest, top, t.TempDir()); r.code != 1 {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
