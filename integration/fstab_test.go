package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// chainIn unpacks the demo chain into a house, and returns its topmost image.
func chainIn(h *house) string {
	h.Helper()
	dir := h.folder("images")
	tool(h, "cp", "-a", "--sparse=always", demoChain(h)+"/.", dir)
	return filepath.Join(dir, "updated.vdi")
}

// escaped is a path as fstab takes it.
func escaped(path string) string { return strings.ReplaceAll(path, " ", `\040`) }

// TestFstab: mount and umount by fstab, with what mount(8) passes on and what it keeps.
func TestFstab(t *testing.T) {
	h := newHouse(t, "mount.vdfs", "mount.fuse.vdfs")
	img, mnt := chainIn(h), h.folder("m n")
	disk := filepath.Join(mnt, "updated", "disk.raw")
	const all = "rw,noauto,nofail,_netdev,nouser,group,comment=of_mine,x-systemd.automount,x-systemd.requires-mounts-for=/var,X-mine," +
		"exec,suid,dev,async,noatime,nodiratime,lazytime,iversion,silent,allow_other,uid=12,gid=34,umask=077,kernel-reads=off"
	for _, c := range []struct{ name, kind, options, shown string }{
		{"defaults", "vdfs", "defaults", " ro,"},
		{"rw alone writes nothing", "vdfs", "rw", " ro,"},
		{"all words", "vdfs", all, " ro,"},
		{"the other type", "fuse.vdfs", "defaults,noexec,nosuid,nodev,sync,dirsync,users", " ro,"},
		{"written", "vdfs", "write,sync", " rw,"},
		{"written to an overlay", "vdfs", `overlay="` + escaped(h.dir) + `/over\040a,b.vdi"`, " rw,"},
		{"a backslash before the comma", "vdfs", `overlay=` + escaped(h.dir) + `/over\040a\,b.vdi`, " rw,"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.TB = t
			h.write(strings.Join([]string{img, escaped(mnt), c.kind, c.options, "0", "0"}, " "))
			h.must("mount", mnt)
			if line := h.line(escaped(mnt)); !strings.Contains(line, " fuse.vdfs ") || !strings.Contains(line, c.shown) {
				t.Errorf("the table says %q", line)
			}
			if line := h.line(escaped(mnt)); strings.Contains(c.options, ",sync") != strings.Contains(line, ",sync,") {
				t.Errorf("with %s the table says %q", c.options, line)
			}
			if got := h.hash(disk); got != demoHash {
				t.Errorf("%s has hash %s", disk, got)
			}
			if c.options == all && h.must("stat", "-c", "%u:%g %a", disk) != "12:34 400\n" {
				t.Errorf("uid, gid or umask was lost: %s", h.must("stat", "-c", "%u:%g %a", disk))
			}
			h.must("umount", mnt)
		})
	}
	h.TB = t
	if _, err := os.Stat(filepath.Join(h.dir, "over a,b.vdi")); err != nil {
		t.Error(err)
	}
}

// TestFstabAll: mount -a mounts what is not noauto, and umount -a all of it.
func TestFstabAll(t *testing.T) {
	h := newHouse(t, "mount.vdfs")
	img := chainIn(h)
	a, b, c := h.folder("a"), h.folder("b"), h.folder("c")
	h.write(img+" "+a+" vdfs defaults 0 0",
		filepath.Join(filepath.Dir(img), "base.vdi")+" "+b+" vdfs nofail 0 0",
		"/nowhere/gone.vdi "+c+" vdfs nofail 0 0",
		img+" "+c+" vdfs noauto 0 0")
	h.must("mount", "-a")
	if got := h.mounts(); strings.Join(got, " ") != b+" "+a {
		t.Errorf("mounted: %q", got)
	}
	h.must("umount", "-a", "-t", "fuse.vdfs")
	if got := h.mounts(); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// TestFstabWrong: what is wrong is named, with an exit code of mount(8)'s.
func TestFstabWrong(t *testing.T) {
	h := newHouse(t, "mount.vdfs", "mount.fuse.vdfs")
	img, mnt := chainIn(h), h.folder("mnt")
	for _, c := range []struct {
		options, want string
		code          int
	}{
		{"umsk=077", "umsk", 1}, {"uid=nobody-of-this-name", "uid=nobody-of-this-name", 1}, {"kernel-reads=maybe", "maybe", 1},
		{"format=qcow2", "qcow2", 1}, {"remount", "remount", 1}, {"overlay", "overlay: it takes a value", 1},
		{"ro,write", "ro", 1}, {"format=vmdk", "updated.vdi", 32}, {"fill=zero", "allow-incomplete", 1},
	} {
		h.write(img + " " + mnt + " vdfs " + c.options + " 0 0")
		if r := h.command("mount", mnt); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: exit %d, %s", c.options, r.code, r.stderr)
		}
	}
	h.write(img + " " + mnt + " vdfs umsk=077 0 0")
	h.must("mount", "-s", mnt)
	h.must("umount", mnt)
	h.write("/nowhere.vdi " + mnt + " vdfs ro 0 0")
	if r := h.command("mount", mnt); r.code != 32 || !strings.Contains(r.stderr, "/nowhere.vdi") {
		t.Errorf("no image: exit %d, %s", r.code, r.stderr)
	}
	if r := h.command("mount", "-f", mnt); r.code != 32 {
		t.Errorf("no image, and only as if: exit %d, %s", r.code, r.stderr)
	}
	h.write(img + " " + mnt + " vdfs overlay=" + h.dir + "/never.vdi 0 0")
	h.must("mount", "-f", "-v", mnt)
	if got := h.mounts(); len(got) != 0 {
		t.Errorf("mount -f has mounted %q", got)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "never.vdi")); err == nil {
		t.Error("mount -f has made an overlay")
	}
}

// TestMountFuse: without helpers of its own, vdfs is found by mount.fuse3.
func TestMountFuse(t *testing.T) {
	h := newHouse(t)
	needTool(t, "mount.fuse3")
	img, mnt := chainIn(h), h.folder("mnt")
	for _, line := range []string{
		img + " " + mnt + ` fuse.vdfs defaults,nofail,_netdev,noauto,nodev,search="` + h.folder("x,y") + `" 0 0`,
		"vdfs#" + img + " " + mnt + " fuse ro,allow_other 0 0",
	} {
		h.write(line)
		h.must("mount", mnt)
		if got := h.hash(filepath.Join(mnt, "updated", "disk.raw")); got != demoHash {
			t.Errorf("%s: hash %s", line, got)
		}
		h.must("umount", mnt)
	}
	h.write(img + " " + mnt + " fuse.vdfs umsk=0 0 0")
	if r := h.command("mount", mnt); r.code != 1 || !strings.Contains(r.stderr, "umsk") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}

// TestFstabUser: a user mounts what fstab lets users mount, and takes it down.
func TestFstabUser(t *testing.T) {
	needTool(t, "fusermount3")
	needTool(t, "setpriv")
	h := newHouse(t, "mount.vdfs")
	img, mnt := chainIn(h), h.folder("mnt")
	if st, err := os.Stat("/dev/fuse"); err != nil || st.Mode().Perm()&0o006 != 0o006 {
		skip(t, "/dev/fuse is not open to all users here (chmod 0666 /dev/fuse)")
	}
	tool(t, "chown", "65534:65534", mnt)
	h.write(img + " " + mnt + " vdfs user,noauto 0 0")
	if r := h.as(nobody, "mount", mnt); r.code != 0 {
		t.Fatalf("mount: exit %d\n%s", r.code, r.stderr)
	}
	if r := h.as(nobody, "sha256sum", filepath.Join(mnt, "updated", "disk.raw")); !strings.HasPrefix(r.stdout, demoHash) {
		t.Errorf("%+v", r)
	}
	if line := h.line(mnt); !strings.Contains(line, "user_id=65534") {
		t.Errorf("mounted by another user: %s", line)
	}
	if r := h.as(nobody, "umount", mnt); r.code != 0 {
		t.Errorf("umount: exit %d\n%s", r.code, r.stderr)
		h.command("umount", mnt)
	}
	pid := filepath.Join(h.folder("run"), "pid")
	tool(t, "chown", "65534:65534", filepath.Dir(pid))
	h.write(img + " " + mnt + " vdfs user,noauto,auto-unmount,pid-file=" + pid + " 0 0")
	if r := h.as(nobody, "mount", mnt); r.code != 0 {
		t.Fatalf("mount: exit %d\n%s", r.code, r.stderr)
	}
	watcher := watcherOf(t, mnt)
	kill(t, atoi(t, pid))
	await(t, watcher)
	if line := h.line(mnt); line != "" {
		t.Errorf("its daemon was killed, and it is there: %s", line)
	}
}

// TestMountNamespace: mount -N mounts in another namespace.
func TestMountNamespace(t *testing.T) {
	h, other := newHouse(t, "mount.vdfs"), newHouse(t, "mount.vdfs")
	img, mnt := chainIn(h), h.folder("mnt")
	pid := strconv.Itoa(other.pid)
	for _, name := range []string{"/proc/" + pid + "/ns/mnt", pid} {
		h.must("mount", "-N", name, "-t", "vdfs", img, mnt)
		if len(h.mounts()) != 0 || strings.Join(other.mounts(), " ") != mnt {
			t.Fatalf("mounted here: %q, there: %q", h.mounts(), other.mounts())
		}
		other.must("umount", mnt)
	}
}
