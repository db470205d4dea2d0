package integration

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// diskSize is odd on purpose: its last block is not whole in any format.
const diskSize = 16<<20 + 37*512

// model is what a disk should hold, and the random source that changes it.
type model struct {
	*rand.Rand
	content []byte
}

// newModel is half zeros, half random megabytes.
func newModel(seed uint64) *model {
	m := &model{rand.New(rand.NewPCG(seed, 3)), make([]byte, diskSize)}
	for at := 0; at < diskSize; at += 2 << 20 {
		m.fill(m.content[at:min(at+1<<20, diskSize)])
	}
	return m
}

func (m *model) fill(p []byte) {
	for i := range p {
		p[i] = byte(m.Uint32())
	}
}

// image writes the model to an image in dir, made by qemu-img.
func (m *model) image(t testing.TB, dir, name, format string, options ...string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if format == "raw" {
		writeFile(t, path, m.content)
		return path
	}
	raw := path + ".src"
	writeFile(t, raw, m.content)
	args := []string{"convert", "-f", "raw", "-O", format}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	tool(t, "qemu-img", append(args, raw, path)...)
	if err := os.Remove(raw); err != nil {
		t.Fatal(err)
	}
	return path
}

// scribble makes n random changes to a mounted disk and to the model: writes of any
// alignment, holes punched, and syncs.
func (m *model) scribble(t testing.TB, disk string, n int) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range n {
		off := m.IntN(diskSize - 1)
		size := min(1+m.IntN(1<<m.IntN(22)), diskSize-off)
		part := m.content[off : off+size]
		switch {
		case i%5 == 4:
			clear(part)
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(size))
		case i%17 == 16:
			err = f.Sync()
		default:
			m.fill(part)
			_, err = f.WriteAt(part, int64(off))
		}
		if err != nil {
			t.Fatalf("change %d at %d, %d bytes: %v", i, off, size, err)
		}
	}
}

// equals compares a file with the model.
func (m *model) equals(t testing.TB, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	if len(got) != len(m.content) {
		t.Errorf("%s: %d bytes, want %d", path, len(got), len(m.content))
		return
	}
	if !bytes.Equal(got, m.content) {
		at := 0
		for got[at] == m.content[at] {
			at++
		}
		t.Errorf("%s differs first at %d", path, at)
	}
}

// shows compares what vdfs copies from an image with the model.
func (m *model) shows(t testing.TB, args ...string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	must(t, append(append([]string{"copy"}, args...), out)...)
	m.equals(t, out)
}

// asQEMU compares what qemu-img reads with the model, and has it check the image.
func (m *model) asQEMU(t testing.TB, path, format string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	tool(t, "qemu-img", "convert", "-f", format, "-O", "raw", path, out)
	if st, err := os.Stat(out); err == nil && st.Size() < diskSize+(64<<10) && format == "vmdk" {
		err = os.Truncate(out, diskSize) // QEMU takes a VMDK of whole grains for as large as these
		if err != nil {
			t.Fatal(err)
		}
	}
	m.equals(t, out)
	if format != "raw" {
		r := command(t, nil, "qemu-img", "check", "-f", format, path)
		if r.code != 0 && !strings.Contains(r.stderr, "does not support checks") {
			t.Errorf("qemu-img check %s: exit %d\n%s%s", path, r.code, r.stdout, r.stderr)
		}
	}
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// unchanged notes what files are, and returns a check that they still are so.
func unchanged(t testing.TB, paths ...string) func() {
	t.Helper()
	before := map[string]string{}
	state := func(path string) string {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.ModTime().String() + " " + sum(t, path)
	}
	for _, p := range paths {
		before[p] = state(p)
	}
	return func() {
		t.Helper()
		for _, p := range paths {
			if now := state(p); now != before[p] {
				t.Errorf("%s was %s and is %s", p, before[p], now)
			}
		}
	}
}

// TestWrite: what is written through a mount is in the image, for everybody.
func TestWrite(t *testing.T) {
	needTool(t, "qemu-img")
	for _, c := range []struct{ name, format, option string }{
		{"disk.vdi", "vdi", "static=off"},
		{"fixed.vdi", "vdi", "static=on"},
		{"disk.vmdk", "vmdk", "subformat=monolithicSparse"},
		{"split.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse"},
		{"flat.vmdk", "vmdk", "subformat=monolithicFlat"},
		{"disk.raw", "raw", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newModel(1)
			img := m.image(t, t.TempDir(), c.name, c.format, c.option)
			for range 2 { // a second mount goes on where the first left it
				mnt := mount(t, "--rw", img)
				disk := filepath.Join(mnt, stem(img), "disk.raw")
				m.scribble(t, disk, 60)
				m.equals(t, disk)
				if line := mountLine(t, mnt); !strings.Contains(line, " rw,") {
					t.Errorf("mounted as %q", line)
				}
				must(t, "umount", mnt)
				m.shows(t, img)
				m.asQEMU(t, img, c.format)
				must(t, "check", img)
			}
		})
	}
}

// TestWriteTop: only the topmost image of a chain changes.
func TestWriteTop(t *testing.T) {
	dir := demoChain(t)
	img := filepath.Join(dir, "updated.vdi")
	parents := unchanged(t, filepath.Join(dir, "base.vdi"), filepath.Join(dir, "installed.vdi"), filepath.Join(dir, "configured.vdi"))
	mnt := mount(t, "-o", "rw", img)
	disk := filepath.Join(mnt, "updated", "disk.raw")
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte("written in the middle of a parent's block")
	if _, err := f.WriteAt(want, 33<<20+17); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 1<<20); err == nil {
		t.Error("the disk was truncated")
	}
	if _, err := os.OpenFile(filepath.Join(mnt, "updated", "snapshots", "0-base.raw"), os.O_RDWR, 0); !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EACCES) {
		t.Errorf("a lower state opened for writing: %v", err)
	}
	after := sum(t, disk)
	must(t, "umount", mnt)
	parents()
	out := filepath.Join(t.TempDir(), "out")
	must(t, "copy", img, out)
	check(t, out, 64<<20, after)
	if after == demoHash {
		t.Error("nothing was written")
	}
}

// TestWriteRefused: images others were made from, and those vdfs cannot write.
func TestWriteRefused(t *testing.T) {
	dir := demoChain(t)
	base := filepath.Join(dir, "base.vdi")
	mnt := t.TempDir()
	if r := vdfs(t, "mount", "--rw", base, mnt); r.code != 5 || !strings.Contains(r.stderr, "--break-children") {
		t.Errorf("a parent opened for writing: exit %d, %q", r.code, r.stderr)
	}
	broken := mount(t, "--rw", "--break-children", base)
	must(t, "umount", broken)
	stream := filepath.Join(unpack(t, "vmdk-stream.tar.gz"), "disk.vmdk")
	if r := vdfs(t, "mount", "--rw", stream, mnt); r.code != 2 || !strings.Contains(r.stderr, "read-only") {
		t.Errorf("streamOptimized opened for writing: exit %d, %q", r.code, r.stderr)
	}
	for _, args := range [][]string{
		{"--rw", "-o", "ro"}, {"-o", "ro,rw"}, {"--rw", "--overlay", "tmp"}, {"--break-children"},
		{"--overlay", "x.vdi", "-o", "ro"}, {"--overlay", ""}, {"--overlay", "tmp", base},
	} {
		if r := vdfs(t, append(append([]string{"mount"}, args...), base, mnt)...); r.code != 1 {
			t.Errorf("mount %v: exit %d, %q", args, r.code, r.stderr)
		}
	}
}

// TestInUse: a second writer, a reader beside a writer, and QEMU are kept out, and
// readers are not.
func TestInUse(t *testing.T) {
	needTool(t, "qemu-img")
	needTool(t, "qemu-io")
	for _, format := range []string{"vdi", "vmdk", "raw"} {
		t.Run(format, func(t *testing.T) {
			img := newModel(2).image(t, t.TempDir(), "disk."+format, format)
			other := t.TempDir()
			inUse := func(args ...string) {
				t.Helper()
				if r := vdfs(t, args...); r.code != 5 || !strings.Contains(r.stderr, "in use") {
					t.Errorf("vdfs %v: exit %d, %q", args, r.code, r.stderr)
				}
			}
			mnt := mount(t, "--rw", img)
			inUse("mount", "--rw", img, other)
			inUse("mount", img, other)
			inUse("info", img)
			if format == "raw" {
				// QEMU lets readers of plain files look at what another writes.
			} else if r := command(t, nil, "qemu-io", "-r", "-f", format, "-c", "read 0 512", img); !strings.Contains(r.stderr+r.stdout, "lock") {
				t.Errorf("QEMU reads what is being written: %+v", r)
			}
			must(t, "umount", mnt)

			mnt = mount(t, img)
			inUse("mount", "--rw", img, other)
			must(t, "info", img)
			if r := command(t, nil, "qemu-io", "-f", format, "-c", "write 0 512", img); !strings.Contains(r.stderr+r.stdout, "lock") {
				t.Errorf("QEMU writes what is being read: %+v", r)
			}
			tool(t, "qemu-img", "info", img)
			tool(t, "qemu-img", "convert", "-f", format, "-O", "raw", img, filepath.Join(t.TempDir(), "out"))
			must(t, "umount", mnt)
			tool(t, "qemu-io", "-f", format, "-c", "write 0 512", img)
		})
	}
}

// TestSignal: SIGTERM syncs and unmounts; a mount in use stays, synced.
func TestSignal(t *testing.T) {
	needTool(t, "qemu-img")
	m := newModel(4)
	img := m.image(t, t.TempDir(), "disk.vdi", "vdi")
	mnt := mount(t, "--rw", img)
	pid := daemon(t, mnt)
	disk := filepath.Join(mnt, "disk", "disk.raw")
	m.scribble(t, disk, 20)
	held, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	time.Sleep(time.Second)
	if !mounted(t, mnt) {
		t.Error("a mount in use is gone")
	}
	held.Close()
	m.equals(t, disk)
	syscall.Kill(pid, syscall.SIGTERM)
	for end := time.Now().Add(20 * time.Second); alive(pid) && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	if alive(pid) || mounted(t, mnt) {
		t.Fatalf("alive %v, mounted %v", alive(pid), mounted(t, mnt))
	}
	m.asQEMU(t, img, "vdi")
}

// TestForegroundWrite: the exit code of a mount in front is that of closing.
func TestForegroundWrite(t *testing.T) {
	needFUSE(t)
	needTool(t, "qemu-img")
	m := newModel(5)
	img, mnt := m.image(t, t.TempDir(), "disk.vmdk", "vmdk"), t.TempDir()
	cmd := exec.Command(vdfsBinary, "-v", "mount", "-f", "--rw", img, mnt)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	for line := make([]byte, 1<<10); !mounted(t, mnt); { // -v says when the mount answers
		if _, err := stderr.Read(line); err != nil {
			t.Fatal(err)
		}
	}
	m.scribble(t, filepath.Join(mnt, "disk", "disk.raw"), 20)
	cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	m.asQEMU(t, img, "vmdk")
}

// TestTrim: a file system on a loop device over the mount; fstrim shrinks the image.
func TestTrim(t *testing.T) {
	needRoot(t)
	for _, c := range []string{"mkfs.ext4", "fstrim", "e2fsck", "losetup", "qemu-img"} {
		needTool(t, c)
	}
	img := filepath.Join(t.TempDir(), "disk.vdi")
	tool(t, "qemu-img", "create", "-q", "-f", "vdi", img, "256M")
	mnt, inside := mount(t, "--rw", img), t.TempDir()
	dev := attachRW(t, filepath.Join(mnt, "disk", "disk.raw"))
	tool(t, "mkfs.ext4", "-q", dev)
	tool(t, "mount", dev, inside)
	t.Cleanup(func() { command(noContext{t}, nil, "umount", inside) })
	big := make([]byte, 64<<20)
	newModel(6).fill(big)
	writeFile(t, filepath.Join(inside, "keep"), big[:1<<20])
	writeFile(t, filepath.Join(inside, "big"), big)
	tool(t, "sync", "-f", inside)
	full := blocks(t, img)
	if err := os.Remove(filepath.Join(inside, "big")); err != nil {
		t.Fatal(err)
	}
	tool(t, "sync", "-f", inside)
	tool(t, "fstrim", inside)
	leave(t, inside)
	tool(t, "e2fsck", "-fn", dev)
	tool(t, "losetup", "-d", dev)
	must(t, "umount", mnt)
	if trimmed := blocks(t, img); trimmed > full-(48<<20) {
		t.Errorf("the image took %d bytes, and %d after fstrim", full, trimmed)
	}
	raw := filepath.Join(t.TempDir(), "out")
	tool(t, "qemu-img", "convert", "-f", "vdi", "-O", "raw", img, raw)
	tool(t, "e2fsck", "-fn", raw)
	must(t, "check", img)
}

// attachRW sets a loop device up that writes.
func attachRW(t testing.TB, file string) string {
	t.Helper()
	dev := strings.TrimSpace(tool(t, "losetup", "-f", "--show", file))
	t.Cleanup(func() {
		if r := command(noContext{t}, nil, "losetup", "-d", dev); r.code != 0 && !strings.Contains(r.stderr, "No such device") {
			t.Errorf("losetup -d %s: %s", dev, r.stderr)
		}
	})
	return dev
}

// blocks is the space a file takes, bytes.
func blocks(t testing.TB, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Blocks * 512
}
