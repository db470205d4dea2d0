package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vdfs/vdcore/vdtest"
)

// in runs the binary in a folder.
func in(t testing.TB, dir string, args ...string) result {
	t.Helper()
	return command(t, func(c *exec.Cmd) { c.Dir = dir }, vdfsBinary, args...)
}

// largeDisk is the size, bytes, beyond which disks take too long to be hashed again.
const largeDisk = 1 << 30

// TestHashVerb: sha256sum and cksum take what hash prints for the files of every golden
// chain, and the disks have the hashes the tools that made them found.
func TestHashVerb(t *testing.T) {
	needTool(t, "sha256sum")
	needTool(t, "cksum")
	for _, c := range vdtest.Cases(t) {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			dir := unpack(t, c.Archive)
			top, disks := c.Layers[0].File, "--layers"
			if c.Layers[0].Capacity > largeDisk {
				disks = "--files"
			}
			for checker, args := range map[string][]string{
				"sha256sum": {"hash", disks, top}, "cksum": {"hash", "--files", "-a", "md5,sha1", "-a", "sha512", top},
			} {
				r := in(t, dir, args...)
				list := filepath.Join(t.TempDir(), "list")
				writeFile(t, list, []byte(r.stdout))
				check := command(t, func(c *exec.Cmd) { c.Dir = dir }, checker, "-c", "--strict", list)
				if r.code != 0 || check.code != 0 {
					t.Errorf("%s takes it with %d: %s%s%s", checker, check.code, r.stderr, r.stdout, check.stderr)
				}
				for _, l := range c.Layers {
					if want := fmt.Sprintf("# %s  disk.raw of %s\n", l.SHA256, l.File); checker == "sha256sum" && disks == "--layers" && !strings.Contains(r.stdout, want) {
						t.Errorf("no %q in %q", want, r.stdout)
					}
				}
			}
		})
	}
}

// TestHashNames: sha256sum takes names with characters it escapes, and names that are
// not UTF-8, which a manifest does not.
func TestHashNames(t *testing.T) {
	needTool(t, "sha256sum")
	dir := t.TempDir()
	for name, code := range map[string]int{"a\nb\\c d.img": 0, "\xff.img": 2} {
		writeFile(t, filepath.Join(dir, name), make([]byte, 5000))
		r := in(t, dir, "hash", name)
		list := filepath.Join(t.TempDir(), "list")
		writeFile(t, list, []byte(r.stdout))
		if check := command(t, func(c *exec.Cmd) { c.Dir = dir }, "sha256sum", "-c", "--strict", list); check.code != 0 || r.code != 0 {
			t.Errorf("%q: %s%s%s", name, r.stdout, r.stderr, check.stderr)
		}
		manifest := filepath.Join(t.TempDir(), "manifest")
		if r := in(t, dir, "hash", "--manifest", manifest, name); r.code != code {
			t.Errorf("%q: exit %d, %s", name, r.code, r.stderr)
		}
		if r := in(t, dir, "hash", "--verify", manifest, name); r.code != code {
			t.Errorf("%q verified: exit %d, %s", name, r.code, r.stderr)
		}
	}
}

// manifestOf writes the manifest of an image and returns its path and the files in it.
func manifestOf(t testing.TB, image string, more ...string) (path string, files []string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "manifest.json")
	must(t, append([]string{"hash", "--manifest", path, image}, more...)...)
	var m struct {
		Images []struct {
			Layers []struct {
				Files []struct{ File string }
			}
		}
	}
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &m) != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, l := range m.Images[0].Layers {
		for _, f := range l.Files {
			files = append(files, filepath.Join(filepath.Dir(image), f.File))
		}
	}
	return path, files
}

// flip changes one byte of a file, and back when it is called again.
func flip(t testing.TB, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 1)
	if _, err := f.ReadAt(p, off); err != nil {
		t.Fatal(err)
	}
	p[0] ^= 0x40
	if _, err := f.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// TestFlippedByte: one byte of any file of a chain, whatever it means to the image, is
// found when it is verified, at the command line and by mount, and the file is named. So
// is a file that is cut off, and one that is not there.
func TestFlippedByte(t *testing.T) {
	for _, c := range vdtest.Cases(t) {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			top := filepath.Join(unpack(t, c.Archive), c.Layers[0].File)
			manifest, files := manifestOf(t, top, "--files")
			verifies(t, manifest, top, "", 0)
			mounts(t, manifest, top, "", 0)
			for _, f := range files {
				size := stat(t, f).Size
				for _, off := range []int64{0, size / 2, size - 1} {
					flip(t, f, off)
					verifies(t, manifest, top, f, 4)
					if off == size/2 {
						mounts(t, manifest, top, f, 4)
					}
					flip(t, f, off)
				}
				if err := os.Truncate(f, size+1); err != nil {
					t.Fatal(err)
				}
				verifies(t, manifest, top, f, 4)
				if err := os.Truncate(f, size); err != nil {
					t.Fatal(err)
				}
				if f == top {
					continue
				}
				if err := os.Rename(f, f+".away"); err != nil {
					t.Fatal(err)
				}
				verifies(t, manifest, top, f, 3)
				if err := os.Rename(f+".away", f); err != nil {
					t.Fatal(err)
				}
			}
			verifies(t, manifest, top, "", 0)
		})
	}
}

// verifies expects hash --verify to end with code, and to name bad.
func verifies(t *testing.T, manifest, image, bad string, code int) {
	t.Helper()
	if r := vdfs(t, "hash", "--verify", manifest, image); r.code != code || !strings.Contains(r.stderr, bad) {
		t.Errorf("hash --verify: exit %d, want %d and %q: %s", r.code, code, bad, r.stderr)
	}
}

// mounts expects the same of mount --verify.
func mounts(t *testing.T, manifest, image, bad string, code int) {
	t.Helper()
	needFUSE(t)
	mnt := t.TempDir()
	if r := vdfs(t, "mount", "--verify", manifest, image, mnt); r.code != code || !strings.Contains(r.stderr, bad) {
		t.Errorf("mount --verify: exit %d, want %d and %q: %s", r.code, code, bad, r.stderr)
	}
	switch {
	case code == 0:
		must(t, "umount", mnt)
	case mounted(t, mnt):
		t.Error("mounted all the same")
	}
}

func stat(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t)
}

// TestVerifyOther: what is no difference of a file is one of the chain: another format,
// another parent.
func TestVerifyOther(t *testing.T) {
	dir := demoChain(t)
	top := filepath.Join(dir, "updated.vdi")
	manifest, _ := manifestOf(t, top, "--files")
	if r := vdfs(t, "hash", "--verify", manifest, "--format", "raw", top); r.code != 4 || !strings.Contains(r.stderr, top) {
		t.Errorf("as raw: exit %d, %s", r.code, r.stderr)
	}
	if r := vdfs(t, "hash", "--verify", manifest, filepath.Join(dir, "base.vdi")); r.code != 4 || !strings.Contains(r.stderr, "base.vdi") {
		t.Errorf("another image: exit %d, %s", r.code, r.stderr)
	}
	elsewhere := t.TempDir()
	tool(t, "cp", filepath.Join(dir, "base.vdi"), elsewhere)
	if r := vdfs(t, "hash", "--verify", manifest, "--parent", filepath.Join(elsewhere, "base.vdi"), top); r.code != 4 || !strings.Contains(r.stderr, elsewhere) {
		t.Errorf("another parent: exit %d, %s", r.code, r.stderr)
	}
}

// TestManifestKept: a manifest is never overwritten, unless it is asked for, and no file
// of an image is; what is no manifest is refused.
func TestManifestKept(t *testing.T) {
	dir := demoChain(t)
	top := filepath.Join(dir, "updated.vdi")
	manifest, _ := manifestOf(t, top)
	was := sum(t, manifest)
	base := filepath.Join(dir, "base.vdi")
	baseWas := sum(t, base)
	for _, args := range [][]string{
		{"hash", "--manifest", manifest, base}, {"hash", "--manifest", base, "--force", top},
	} {
		if r := vdfs(t, args...); r.code != 2 {
			t.Errorf("vdfs %v: exit %d, %s", args, r.code, r.stderr)
		}
	}
	if sum(t, manifest) != was || sum(t, base) != baseWas {
		t.Error("a file was overwritten")
	}
	must(t, "hash", "--manifest", manifest, "--force", base)
	must(t, "hash", "--verify", manifest, base)
	if r := vdfs(t, "hash", "--verify", base, base); r.code != 2 || !strings.Contains(r.stderr, "no manifest") {
		t.Errorf("an image as a manifest: exit %d, %s", r.code, r.stderr)
	}
}

// TestHashInterrupted: Ctrl-C ends hashing at once, and leaves nothing.
func TestHashInterrupted(t *testing.T) {
	dir := t.TempDir()
	img := filepath.Join(dir, "large.img")
	writeFile(t, img, nil)
	if err := os.Truncate(img, 4<<40); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(vdfsBinary, "hash", "--manifest", filepath.Join(dir, "manifest"), img)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitWork(t, cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit %d, want 7", code)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}

// awaitWork returns when a process has used some processor time.
func awaitWork(t testing.TB, pid int) {
	t.Helper()
	const ticks = 30 // hundredths of a second: more than starting takes
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || time.Now().After(end) {
			t.Fatalf("process %d does no work: %v", pid, err)
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		var user, system int
		fields := strings.Fields(rest) // from the third on
		fmt.Sscan(fields[11], &user)
		fmt.Sscan(fields[12], &system)
		if user+system > ticks {
			return
		}
	}
}
