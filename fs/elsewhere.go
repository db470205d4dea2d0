package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"vdfs/internal/shell"
)

// same reports whether two entries are mounts of one file system. The number of the
// device is not enough: it is given to another one as soon as the file system is gone.
func (e *Entry) same(o Entry) bool {
	return e.Device == o.Device && e.Type == o.Type && e.Source == o.Source
}

// Elsewhere is where else the file system of e is mounted in this process's mount
// namespace, also when e itself is unmounted; "" for nowhere.
func (e *Entry) Elsewhere() string {
	table, _ := MountTable() // without it, nothing is found
	return e.in(table)
}

func (e *Entry) in(table []Entry) string {
	for _, o := range table {
		if e.same(o) {
			return o.Mountpoint
		}
	}
	return ""
}

// Copy is a mount of the file system in another mount namespace: one that was made
// while it was mounted begins with copies of all mounts, and has them until its last
// process ends or unmounts them.
type Copy struct {
	PID  int    // of a process in the namespace
	Name string // of the program
	Path string // the mountpoint as seen there
}

func (c *Copy) String() string {
	return fmt.Sprintf("the mount namespace of process %d (%s) has a copy of the mount; take it away with: nsenter -t %d -m umount %s",
		c.PID, c.Name, c.PID, shell.Quote(c.Path))
}

// Copied looks for the file system of e in other mount namespaces; nil when none is
// seen. Of other users' processes only root sees them.
func (e *Entry) Copied() *Copy {
	own, _ := os.Readlink("/proc/self/ns/mnt")
	seen := map[string]bool{own: true}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		namespace, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
		if err != nil || seen[namespace] {
			continue
		}
		f, err := os.Open(filepath.Join(dir, "mountinfo"))
		if err != nil {
			continue // gone meanwhile; another process of the namespace may be there
		}
		table, err := parseMountinfo(f)
		f.Close()
		seen[namespace] = err == nil
		if path := e.in(table); path != "" {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return &Copy{pid, strings.TrimSpace(string(name)), path}
		}
	}
	return nil
}
