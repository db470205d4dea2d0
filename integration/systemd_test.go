package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// boot starts a systemd of its own as process 1 of a process namespace, in a mount
// namespace and a control group of its own: it sees no unit of the machine's but the
// unit of the package and the targets it cannot be without. $1 is the house's folder.
const boot = unshareMounts + `
units=/usr/lib/systemd/system generators=/usr/lib/systemd/system-generators
mkdir "$1/root" "$1/units" "$1/generators"
mount --make-rprivate /
mount -t cgroup2 cgroup2 "$1/root"
mkdir "$1/root/$2"
echo 0 > "$1/root/$2/cgroup.procs"
umount "$1/root"
for t in vdfs-test sysinit basic local-fs local-fs-pre remote-fs remote-fs-pre umount shutdown multi-user network network-online; do
    printf '[Unit]\nDescription=%s\n' $t > "$1/units/$t.target"
done
cp packaging/vdfs@.service "$1/units/"
cp $generators/systemd-fstab-generator "$1/generators/"
mount --bind "$1/units" $units
mount --bind "$1/generators" $generators
mount -t tmpfs vdfs-test /run
mount -t tmpfs vdfs-test /etc/systemd
mkdir -p /etc/vdfs
mount --bind "$1/etc" /etc/vdfs
mount -t overlay vdfs-test -o "lowerdir=$1/bin:/usr/sbin" /usr/sbin
mount -t overlay vdfs-test -o "lowerdir=$1/bin:/usr/bin" /usr/bin
mount --bind "$1/fstab" /etc/fstab
exec unshare --cgroup --pid --fork --kill-child --mount --propagation private sh -euc '
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo booting
export container=vdfs-test
exec /lib/systemd/systemd --unit=vdfs-test.target --log-target=null --show-status=0' </dev/null 2>&1`

// booted is a house with a systemd that has read its fstab.
func booted(t testing.TB, fstab func(h *house)) *house {
	t.Helper()
	needRoot(t)
	needFUSE(t)
	for _, name := range []string{"unshare", "nsenter", "mount", "systemctl"} {
		needTool(t, name)
	}
	h := &house{TB: t, dir: openDir(t)}
	h.fstab = filepath.Join(h.dir, "fstab")
	bin := h.folder("bin")
	h.folder("etc")
	for _, name := range []string{"vdfs", "mount.vdfs", "mount.fuse.vdfs"} {
		tool(t, "cp", vdfsBinary, filepath.Join(bin, name))
	}
	fstab(h)
	group := fmt.Sprintf("vdfs-test-%d", os.Getpid())
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-euc", boot, "sh", h.dir, group)
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if h.pid > 0 {
			kill(h, h.pid) // process 1, and so all of them
		}
		cmd.Wait()
		removeGroup(t, group)
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "booting\n" {
		skip(t, "no systemd in a namespace here: %q", line)
	}
	h.pid = childOf(t, cmd.Process.Pid)
	h.enter = []string{"-p"}
	h.awaitBoot()
	return h
}

// childOf is the only child of a process.
func childOf(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return child
}

// awaitBoot asks until systemd answers; there is nothing to wait on before that.
func (h *house) awaitBoot() {
	h.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r := h.command("systemctl", "is-active", "vdfs-test.target")
		if r.stdout == "active\n" {
			return
		}
		if time.Now().After(end) {
			h.Fatalf("systemd does not come up: %+v", r)
		}
	}
}

// removeGroup removes what systemd has made in its control group, and that.
func removeGroup(t testing.TB, name string) {
	t.Helper()
	const script = `d=$(mktemp -d); mount -t cgroup2 cgroup2 "$d"; find "$d/$1" -depth -type d -exec rmdir {} +; umount "$d"; rmdir "$d"`
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) { // processes leave their groups a moment after their end
		r := command(noContext{t}, nil, "unshare", "--mount", "sh", "-euc", script, "sh", name)
		if r.code == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("the control group %s is left: %s", name, r.stderr)
			return
		}
	}
}

// property is what systemd says of a unit.
func (h *house) property(unit, name string) string {
	h.Helper()
	return strings.TrimSpace(h.must("systemctl", "show", "--value", "-p", name, unit))
}

// unit is what systemd calls the mount of a folder.
func (h *house) unit(mnt, kind string) string {
	h.Helper()
	return strings.TrimSpace(h.must("systemd-escape", "--path", "--suffix="+kind, mnt))
}

// TestSystemdFstab: systemd makes units of fstab lines, in the right order, and mounts by
// them, the first time somebody looks where automount says so.
func TestSystemdFstab(t *testing.T) {
	var plain, auto, late string
	h := booted(t, func(h *house) {
		img := chainIn(h)
		plain, auto, late = h.folder("plain"), h.folder("auto"), h.folder("late")
		h.write(img+" "+plain+" vdfs allow_other,umask=077 0 0",
			img+" "+auto+" vdfs noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=1h,x-systemd.requires-mounts-for="+h.dir+" 0 0",
			img+" "+late+" fuse.vdfs _netdev,nofail,x-systemd.after=network-online.target 0 0")
	})
	unit := h.unit(plain, "mount")
	if got := h.property(unit, "Before"); !strings.Contains(got, "local-fs.target") {
		t.Errorf("%s is before %s", unit, got)
	}
	if got := h.property(unit, "RequiredBy"); got != "local-fs.target" {
		t.Errorf("%s is required by %q", unit, got)
	}
	unit = h.unit(late, "mount")
	if before, after := h.property(unit, "Before"), h.property(unit, "After"); strings.Contains(before, "fs.target") || !strings.Contains(after, "network-online.target") {
		t.Errorf("%s is before %s, after %s", unit, before, after)
	}
	h.must("systemctl", "start", "local-fs.target", "remote-fs.target")
	if got := h.property(unit, "WantedBy"); got != "remote-fs.target" {
		t.Errorf("%s is wanted by %q", unit, got)
	}
	for _, mnt := range []string{plain, late} {
		if got := h.hash(filepath.Join(mnt, "updated", "disk.raw")); got != demoHash {
			t.Errorf("%s: hash %s", mnt, got)
		}
	}
	unit = h.unit(auto, "automount")
	h.must("systemctl", "start", unit)
	if got := h.property(h.unit(auto, "mount"), "ActiveState"); got != "inactive" {
		t.Errorf("%s is %s before anybody looked", auto, got)
	}
	if got := h.hash(filepath.Join(auto, "updated", "disk.raw")); got != demoHash {
		t.Errorf("%s: hash %s", auto, got)
	}
	if got := h.property(h.unit(auto, "mount"), "ActiveState"); got != "active" {
		t.Errorf("%s is %s when somebody has looked", auto, got)
	}
	h.must("systemctl", "stop", unit, h.unit(auto, "mount"), h.unit(plain, "mount"), h.unit(late, "mount"))
	if got := h.mounts(); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// TestSystemdUnit: vdfs@NAME serves what /etc/vdfs/NAME.conf says, is up when the mount
// answers, and down when the images are closed.
func TestSystemdUnit(t *testing.T) {
	var img, mnt string
	h := booted(t, func(h *house) {
		h.write()
		img, mnt = chainIn(h), h.folder("m n")
		conf := fmt.Sprintf("IMAGE=%s\nMOUNTPOINT=%s\nOPTIONS=\"write,search=%s\"\n", img, mnt, h.folder("x,y"))
		conf = strings.ReplaceAll(conf, "x,y", `x\\,y`)
		for name, text := range map[string]string{"win-10.conf": conf, "wrong.conf": strings.ReplaceAll(conf, "write", "wirte")} {
			if err := os.WriteFile(filepath.Join(h.dir, "etc", name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
	h.must("systemctl", "start", "vdfs@win-10")
	disk := filepath.Join(mnt, "updated", "disk.raw")
	if got := h.hash(disk); got != demoHash {
		t.Errorf("hash %s", got)
	}
	if got := h.property("vdfs@win-10", "StatusText"); !strings.HasPrefix(got, "serving") {
		t.Errorf("its status is %q", got)
	}
	h.must("dd", "if=/dev/zero", "of="+disk, "bs=4096", "count=1", "conv=notrunc")
	h.must("systemctl", "stop", "vdfs@win-10")
	if got := h.property("vdfs@win-10", "Result"); got != "success" || len(h.mounts()) != 0 {
		t.Errorf("result %s, left %q", got, h.mounts())
	}
	must(t, "check", img)
	h.must("systemctl", "start", "vdfs@win-10")
	h.must("umount", mnt) // the service ends with its mount
	h.must("systemctl", "stop", "vdfs@win-10")
	if got := h.property("vdfs@win-10", "Result"); got != "success" {
		t.Errorf("result %s after umount", got)
	}
	if r := h.command("systemctl", "start", "vdfs@wrong"); r.code == 0 {
		t.Error("a wrong option starts")
	}
	h.must("systemd-analyze", "verify", "--man=no", "vdfs@win-10.service")
}
