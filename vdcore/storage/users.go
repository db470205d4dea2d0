package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Users looks through /proc, once for all files. Of other users' processes only
// root sees the files.
func (o *OS) Users(files []File) []User {
	wanted := map[FileID]File{}
	for _, f := range files {
		if st, err := f.Stat(); err == nil {
			wanted[st.ID] = f
		}
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var list []User
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == os.Getpid() {
			continue
		}
		found := usesOf(dir, pid, wanted)
		if len(found) > 0 && isChild(dir) { // what a child got from us it loses when it becomes another program
			if isFork(dir) {
				continue
			}
			found = usesOf(dir, pid, wanted)
		}
		list = append(list, found...)
	}
	return list
}

// isChild reports whether this process started the one in /proc/<pid>.
func isChild(proc string) bool {
	status, _ := os.ReadFile(filepath.Join(proc, "status"))
	return strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid()))
}

// isFork reports whether a child has not become another program yet. Until then it
// holds the files this process has open, all of which are close-on-exec.
func isFork(proc string) bool {
	ours, err := os.Readlink("/proc/self/exe")
	its, failed := os.Readlink(filepath.Join(proc, "exe"))
	return err == nil && failed == nil && its == ours
}

// usesOf lists which of the files the process in /proc/<pid> has open, or mapped as
// Guard does.
func usesOf(proc string, pid int, wanted map[FileID]File) []User {
	found := map[FileID]bool{} // whether for writing
	fds, _ := os.ReadDir(filepath.Join(proc, "fd"))
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(proc, "fd", fd.Name()), &st) != nil {
			continue
		}
		if id := (FileID{st.Dev, st.Ino}); wanted[id] != nil {
			found[id] = found[id] || opensForWriting(filepath.Join(proc, "fdinfo", fd.Name()))
		}
	}
	mapped, _ := os.ReadFile(filepath.Join(proc, "maps"))
	var list []User
	for id, f := range wanted {
		writing, open := found[id]
		if open || strings.Contains(string(mapped), fmt.Sprintf(" %02x:%02x %d ", unix.Major(id.Dev), unix.Minor(id.Dev), id.Ino)) {
			name, _ := os.ReadFile(filepath.Join(proc, "comm"))
			list = append(list, User{pid, strings.TrimSpace(string(name)), f, writing})
		}
	}
	return list
}

// opensForWriting reads the line "flags:" of an fdinfo file, octal.
func opensForWriting(fdinfo string) bool {
	text, _ := os.ReadFile(fdinfo)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseInt(strings.TrimSpace(value), 8, 64)
			return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY
		}
	}
	return false
}
