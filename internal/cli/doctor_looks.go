package cli

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vdfs/fs"
	"vdfs/internal/shell"
)

// surroundings are the looks the doctor takes at the machine, without changing anything.
var surroundings = []func() finding{
	lookKernel, lookUser, lookDevice, lookHelper, lookConf, lookMountHelper, lookLoop, lookPipes, lookFiles, lookMemory, lookTemp, lookStale,
}

func lookKernel() finding {
	f := finding{Name: "kernel", State: healthy}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return finding{Name: f.Name, State: noted, Text: err.Error()}
	}
	release := unix.ByteSliceToString(u.Release[:])
	f.Text = "Linux " + release
	if major, minor := versionOf(release); major < 6 || major == 6 && minor < 12 {
		f.State, f.Text = noted, f.Text+": before 6.12 the kernel does not read images by itself"
		f.Fix = "a newer kernel; without, vdfs answers each read"
	}
	return f
}

// versionOf reads "6.18.1-amd64".
func versionOf(release string) (major, minor int) {
	fmt.Sscanf(release, "%d.%d", &major, &minor) // zeros for what is not so
	return major, minor
}

func lookUser() finding {
	f := finding{Name: "user", State: healthy, Text: "not root: mounts with the help of fusermount3, and vdfs answers each read"}
	if os.Geteuid() != 0 {
		return f
	}
	if f.Text = "root, with CAP_SYS_ADMIN"; hasCapability(unix.CAP_SYS_ADMIN) {
		return f
	}
	return finding{f.Name, failing, "root, but without CAP_SYS_ADMIN, which mounting takes", "in a container: --cap-add SYS_ADMIN --device /dev/fuse"}
}

func hasCapability(n uint) bool {
	var data [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	return err == nil && data[n/32].Effective&(1<<(n%32)) != 0
}

func lookDevice() finding {
	const path = "/dev/fuse"
	f := finding{Name: path, State: healthy, Text: "can be opened"}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		fix := "modprobe fuse; in a container: --device /dev/fuse"
		if err == unix.EACCES {
			fix = "as root: chmod 0666 /dev/fuse"
		}
		return finding{f.Name, failing, err.Error(), fix}
	}
	unix.Close(fd)
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o006 != 0o006 {
		f.State, f.Text, f.Fix = noted, "can be opened by some only", "chmod 0666 /dev/fuse"
	}
	return f
}

func lookHelper() finding {
	f := finding{Name: "fusermount3", State: healthy}
	worse := failing
	if os.Geteuid() == 0 {
		worse = noted // root mounts without
	}
	path, err := exec.LookPath(f.Name)
	if err != nil {
		return finding{f.Name, worse, "is not installed: only root can mount", "apt install fuse3"}
	}
	st, err := os.Stat(path)
	if err != nil {
		return finding{f.Name, worse, err.Error(), "apt install --reinstall fuse3"}
	}
	if st.Mode()&os.ModeSetuid == 0 {
		return finding{f.Name, worse, path + " is not set-user-ID root: only root can mount", "chown root " + path + " && chmod 4755 " + path}
	}
	f.Text = path + ", set-user-ID"
	if out, err := exec.Command(path, "-V").Output(); err == nil {
		f.Text += ", " + strings.TrimSpace(string(out))
	}
	return f
}

func lookConf() finding {
	f := finding{Name: "allow_other", State: healthy, Text: fs.ConfFile + " lets users have it"}
	allowed, err := fs.UserAllowOther()
	if err != nil {
		f.Text, f.State = err.Error(), noted
	}
	if !allowed {
		f.State, f.Fix = noted, "echo user_allow_other >> "+fs.ConfFile
		if err == nil {
			f.Text = "is for root only: " + fs.ConfFile + " does not say user_allow_other"
		}
	}
	return f
}

func lookMountHelper() finding {
	f := finding{Name: "fstab", State: healthy, Text: "mount(8) finds vdfs"}
	for _, name := range slices.Sorted(maps.Keys(helperNames)) {
		if !exists("/sbin/" + name) {
			bin, _ := os.Executable()
			return finding{f.Name, noted, "there is no /sbin/" + name + ", so mount(8) does not know the type", "ln -s " + bin + " /sbin/" + name}
		}
	}
	return f
}

func lookLoop() finding {
	const path = "/dev/loop-control"
	f := finding{Name: "loop devices", State: healthy, Text: path + " can be opened"}
	if !exists(path) {
		return finding{f.Name, noted, "there is no " + path + ": partitions and file systems cannot be mounted", "modprobe loop"}
	}
	if unix.Access(path, unix.R_OK|unix.W_OK) != nil {
		return finding{f.Name, noted, "only root sets them up", "losetup and mount take sudo"}
	}
	return f
}

func lookPipes() finding {
	const path, want = "/proc/sys/fs/pipe-max-size", 1 << 20
	f := finding{Name: "pipes", State: healthy}
	n, err := numberIn(path)
	if f.Text = fmt.Sprintf("of up to %s", size(n)); err != nil {
		return finding{f.Name, noted, err.Error(), ""}
	}
	if n < want {
		return finding{f.Name, noted, f.Text + ": large reads are copied once more", fmt.Sprintf("sysctl -w fs.pipe-max-size=%d", want)}
	}
	return f
}

func numberIn(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

func lookFiles() finding {
	const want = 1024
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return finding{"open files", noted, err.Error(), ""}
	}
	if l.Max < want {
		return finding{"open files", noted, fmt.Sprintf("at most %d: long chains are read slower", l.Max), "ulimit -Hn 65536, or LimitNOFILE= of a unit"}
	}
	return finding{"open files", healthy, fmt.Sprintf("at most %d", l.Max), ""}
}

func lookMemory() finding {
	const want = 64 << 20
	f := finding{Name: "locked memory", State: healthy, Text: "not limited"}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
		return finding{f.Name, noted, err.Error(), ""}
	}
	if hasCapability(unix.CAP_IPC_LOCK) || l.Cur == unix.RLIM_INFINITY {
		return f
	}
	f.Text = "at most " + size(int64(l.Cur))
	if l.Cur < want && os.Geteuid() == 0 { // only root has maps to lock
		f.State, f.Text, f.Fix = noted, f.Text+": the kernel's maps of disks may be read again and again", "ulimit -l unlimited, or LimitMEMLOCK= of a unit"
	}
	return f
}

func lookTemp() finding {
	dir := tempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return finding{"temporary files", noted, fmt.Sprintf("%s: %v", dir, err), "set TMPDIR to a folder on a disk"}
	}
	text := fmt.Sprintf("in %s, %s free", dir, size(int64(st.Bavail)*int64(st.Bsize)))
	if st.Type == unix.TMPFS_MAGIC {
		return finding{"temporary files", noted, text + ", in memory: the kernel does not read images by itself", "set TMPDIR to a folder on a disk"}
	}
	return finding{"temporary files", healthy, text, ""}
}

func lookStale() finding {
	rows, err := listMounts()
	if err != nil {
		return finding{"mounts", noted, err.Error(), ""}
	}
	for _, r := range rows {
		if r.State == stateStale {
			return finding{"mounts", noted, r.Mountpoint + " is that of a daemon that is gone", "vdfs umount " + shell.Quote(r.Mountpoint)}
		}
	}
	return finding{"mounts", healthy, fmt.Sprintf("%d of vdfs, none without a daemon", len(rows)), ""}
}
