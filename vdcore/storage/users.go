package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Users looks through /proc. Of other users' processes only root sees the files.
func (o *OS) Users(f File) []User {
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var list []User
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == os.Getpid() {
			continue
		}
		if open, writing := uses(dir, st.ID); open {
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			list = append(list, User{PID: pid, Name: strings.TrimSpace(string(name)), Writing: writing})
		}
	}
	return list
}

// uses reports whether the process in /proc/<pid> has the file open, or mapped
// as Guard does, and whether for writing.
func uses(proc string, id FileID) (open, writing bool) {
	fds, _ := filepath.Glob(filepath.Join(proc, "fd", "*"))
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(fd, &st) != nil || (FileID{st.Dev, st.Ino}) != id {
			continue
		}
		open = true
		writing = writing || opensForWriting(filepath.Join(proc, "fdinfo", filepath.Base(fd)))
	}
	return open || maps(proc, id), writing
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

// maps looks for "major:minor inode" in the process's mappings.
func maps(proc string, id FileID) bool {
	text, err := os.ReadFile(filepath.Join(proc, "maps"))
	if err != nil {
		return false
	}
	want := fmt.Sprintf(" %02x:%02x %d ", unix.Major(id.Dev), unix.Minor(id.Dev), id.Ino)
	return strings.Contains(string(text), want)
}
