package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"vdfs/internal/shell"
)

// Holder is something that keeps a mount busy.
type Holder struct {
	Kind string // "loop", "mount" or "process"
	Name string // /dev/loop0, a mountpoint, or a program's name
	PID  int    // of a process
	Path string // what it holds
	Free string // the command that lets go; "" when that is for the user to know
}

func (h Holder) String() string {
	s := h.Name
	if h.Kind == "process" {
		s = fmt.Sprintf("process %d (%s)", h.PID, h.Name)
	}
	s = fmt.Sprintf("%s, which holds %s", s, h.Path)
	if h.Free != "" {
		s += "; free it with: " + h.Free
	}
	return s
}

// Holders looks for what keeps the mount at an absolute path busy. It reads /proc
// and /sys only, and never the mount itself. Of other users' processes only root
// sees the files.
func Holders(mountpoint string) []Holder {
	table, _ := MountTable() // without it, less is found
	list := loopHolders(mountpoint, table)
	for _, e := range table {
		if e.Mountpoint != mountpoint && below(e.Mountpoint, mountpoint) {
			list = append(list, Holder{Kind: "mount", Name: e.Source, Path: e.Mountpoint, Free: "umount " + shell.Quote(e.Mountpoint)})
		}
	}
	return append(list, processHolders(mountpoint)...)
}

// below reports whether path is dir or lies below it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// Loop is a loop device.
type Loop struct {
	Device string // /dev/loop0
	File   string // below it
}

// LoopsBelow lists the loop devices over files in dir or below.
func LoopsBelow(dir string) (list []Loop) {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		text, err := os.ReadFile(f)
		path := named(string(text))
		if err == nil && below(path, dir) {
			list = append(list, Loop{"/dev/" + filepath.Base(filepath.Dir(filepath.Dir(f))), path})
		}
	}
	return list
}

// mountedOn lists the mounts of the device and its partitions.
func (l Loop) mountedOn(table []Entry) (list []Entry) {
	for _, e := range table {
		if e.Source == l.Device || strings.HasPrefix(e.Source, l.Device+"p") {
			list = append(list, e)
		}
	}
	return list
}

// Users are what has the device in use: mountpoints, and devices on top of it.
func (l Loop) Users(table []Entry) (list []string) {
	for _, e := range l.mountedOn(table) {
		list = append(list, e.Mountpoint)
	}
	sys := "/sys/block/" + filepath.Base(l.Device)
	for _, pattern := range []string{sys + "/holders/*", sys + "/loop*p*/holders/*"} {
		holders, _ := filepath.Glob(pattern)
		for _, h := range holders {
			list = append(list, "/dev/"+filepath.Base(h))
		}
	}
	return list
}

// loopHolders finds loop devices on files of the mount, and says what has to be
// unmounted first.
func loopHolders(mountpoint string, table []Entry) (list []Holder) {
	for _, l := range LoopsBelow(mountpoint) {
		free := "losetup -d " + l.Device
		for _, e := range l.mountedOn(table) {
			free = "umount " + shell.Quote(e.Mountpoint) + " && " + free
		}
		list = append(list, Holder{Kind: "loop", Name: l.Device, Path: l.File, Free: free})
	}
	return list
}

func processHolders(mountpoint string) (list []Holder) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		path := heldBy(dir, mountpoint)
		if path == "" {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		list = append(list, Holder{Kind: "process", Name: strings.TrimSpace(string(name)), PID: pid, Path: path})
	}
	return list
}

// named is a path as the kernel tells it, without what it adds to one it has looked up
// again since, see twins.
func named(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(path, "\n"), " (deleted)")
}

// heldBy returns the first path below the mount that the process in /proc/<pid>
// has open, mapped, or as a working folder; "" when there is none.
func heldBy(proc, mountpoint string) string {
	links, _ := filepath.Glob(filepath.Join(proc, "fd", "*"))
	for _, link := range append(links, filepath.Join(proc, "cwd"), filepath.Join(proc, "root")) {
		if path, err := os.Readlink(link); err == nil && below(path, mountpoint) {
			return named(path)
		}
	}
	return mappedBy(proc, mountpoint)
}

// mappedBy finds a mapped file whose descriptor is closed already.
func mappedBy(proc, mountpoint string) string {
	maps, err := os.ReadFile(filepath.Join(proc, "maps"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(maps)) {
		if i := strings.IndexByte(line, '/'); i >= 0 {
			if path := named(line[i:]); below(path, mountpoint) {
				return path
			}
		}
	}
	return ""
}
