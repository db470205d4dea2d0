package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// attached as the JSON has it.
type attachment struct {
	Device, Mountpoint, Disk string
	SectorSize               int64 `json:"sector_size"`
	Partitions               []struct {
		Number       int
		Device, File string
	}
}

func needLoop(t *testing.T) {
	t.Helper()
	needRoot(t)
	needFUSE(t)
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		skip(t, "no loop devices here: %v", err)
	}
}

// attachImage attaches, and sees to it that nothing is left.
func attachImage(t *testing.T, args ...string) attachment {
	t.Helper()
	var a attachment
	parse(t, must(t, append([]string{"attach", "--json"}, args...)...), &a)
	t.Cleanup(func() {
		command(noContext{t}, nil, vdfsBinary, "detach", args[len(args)-1]) // fails when it is done already
		if _, err := os.Stat(a.Mountpoint); !os.IsNotExist(err) || mounted(t, a.Mountpoint) {
			t.Errorf("%s is left: %v", a.Mountpoint, err)
		}
	})
	return a
}

// backing is the file below a loop device, "" without.
func backing(device string) string {
	text, _ := os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/backing_file")
	return strings.TrimSpace(string(text))
}

// TestAttach: the device is read-only, has the sector size of the table and the bytes
// of the disk; detach takes all of it down, by the name of either.
func TestAttach(t *testing.T) {
	needLoop(t)
	for _, l := range []layout{layouts[0], layouts[6]} {
		dir := t.TempDir()
		disk := filepath.Join(dir, "disk.raw")
		l.make(t, disk)
		img := filepath.Join(dir, "an image.vdi")
		must(t, "convert", disk, img)
		for _, byImage := range []bool{false, true} {
			a := attachImage(t, img)
			if backing(a.Device) != a.Disk || a.SectorSize != l.sector || len(a.Partitions) != 3 {
				t.Errorf("%+v", a)
			}
			queue := "/sys/block/" + filepath.Base(a.Device)
			if got := strings.TrimSpace(readFile(t, queue+"/queue/logical_block_size")); got != fmt.Sprint(l.sector) {
				t.Errorf("sectors of %s", got)
			}
			if got := strings.TrimSpace(readFile(t, queue+"/ro")); got != "1" {
				t.Error("the device can be written")
			}
			if got, want := sum(t, a.Device), sum(t, disk); got != want {
				t.Errorf("%s reads %s, want %s", a.Device, got, want)
			}
			if got := sum(t, a.Partitions[0].File); got == "" {
				t.Errorf("%s", got)
			}
			if r := vdfs(t, "attach", img); r.code != 5 || !strings.Contains(r.stderr, a.Device) {
				t.Errorf("a second time: exit %d, %s", r.code, r.stderr)
			}
			name := a.Device
			if byImage {
				name = img
			}
			must(t, "detach", name)
			if backing(a.Device) != "" || mounted(t, a.Mountpoint) {
				t.Errorf("%s is still there, or %s", a.Device, a.Mountpoint)
			}
			if r := vdfs(t, "detach", name); r.code != 1 {
				t.Errorf("detach a second time: exit %d, %s", r.code, r.stderr)
			}
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAttachInUse: what is mounted from the device stays, and is named.
func TestAttachInUse(t *testing.T) {
	needLoop(t)
	needTool(t, "mkfs.ext4")
	dir := t.TempDir()
	img := filepath.Join(dir, "fs.raw")
	writeFile(t, img, nil)
	if err := os.Truncate(img, 16<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "mkfs.ext4", "-q", "-F", img)
	a := attachImage(t, img)
	inside := t.TempDir()
	tool(t, "mount", "-o", "ro,noload", a.Device, inside)
	r := vdfs(t, "detach", img)
	leave(t, inside)
	if r.code != 5 || !strings.Contains(r.stderr, inside) {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	if backing(a.Device) == "" || !mounted(t, a.Mountpoint) {
		t.Error("it was taken down all the same")
	}
	must(t, "detach", img)
}

// TestAttachKilled: a mount without a device, a device without a daemon, and neither
// with a folder left; each is told of or cleared up by the next attach or detach.
func TestAttachKilled(t *testing.T) {
	needLoop(t)
	img := filepath.Join(demoChain(t), "updated.vdi")
	a := attachImage(t, img)
	must(t, "detach", img)

	if err := os.Mkdir(a.Mountpoint, 0o700); err != nil { // killed before mounting
		t.Fatal(err)
	}
	must(t, "attach", img)
	must(t, "detach", img)

	if err := os.Mkdir(a.Mountpoint, 0o700); err != nil { // killed after it
		t.Fatal(err)
	}
	must(t, "mount", img, a.Mountpoint)
	must(t, "attach", img)

	syscall.Kill(daemon(t, a.Mountpoint), syscall.SIGKILL)
	if r := vdfs(t, "attach", img); r.code != 5 || !strings.Contains(r.stderr, "vdfs detach") {
		t.Errorf("attach after its daemon was killed: exit %d, %s", r.code, r.stderr)
	}
	must(t, "detach", img)
	if r := vdfs(t, "detach", img); r.code != 1 || !strings.Contains(r.stderr, "not attached") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	if r := vdfs(t, "detach", "/dev/loop12345"); r.code != 1 {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	if r := vdfs(t, "attach", filepath.Join(t.TempDir(), "none.vdi")); r.code != 2 {
		t.Errorf("no image: exit %d, %s", r.code, r.stderr)
	}
	if r := vdfs(t, "attach", "--format", "vmdk", img); r.code == 0 || mounted(t, a.Mountpoint) {
		t.Errorf("an image that cannot be opened: exit %d", r.code)
	}
	if _, err := os.Stat(a.Mountpoint); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", a.Mountpoint, err)
	}
}

// TestAttachUser: without root the reason is said.
func TestAttachUser(t *testing.T) {
	needRoot(t)
	as := func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		c.Dir = "/"
	}
	bin := filepath.Join(t.TempDir(), "vdfs")
	tool(t, "cp", vdfsBinary, bin)
	for p := filepath.Dir(bin); p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if r := command(t, as, bin, "attach", "/none"); r.code != 6 || !strings.Contains(r.stderr, "root") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
