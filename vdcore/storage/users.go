package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Users looks through /proc, once for all files. Of other users' processes only
// root sees the files.
func (o *OS) Users(files []File, writing bool) []User {
	wanted := map[FileID]File{}
	for _, f := range files {
		if st, err := f.Stat(); err == nil && !(writing && unwritten(f)) {
			wanted[st.ID] = f
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var list []User
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == os.Getpid() {
			continue
		}
		found := usesOf(dir, pid, wanted, writing)
		if len(found) > 0 && isChild(dir) { // what a child got from us it loses when it becomes another program
			if isFork(dir) {
				continue
			}
			found = usesOf(dir, pid, wanted, writing)
		}
		list = append(list, found...)
	}
	return list
}

// counting are the file systems whose files are written to through the kernel's own
// inode alone, so that it knows of every writer. An overlay has files below it, a network
// other machines, and a FUSE server may show one file as several.
var counting = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC}

// unwritten reports that nobody, this process included, has a file open or mapped for
// writing; false is no answer. The kernel grants a read lease on such files only, and only
// to their owner and who may take leases (fcntl(2), F_SETLEASE). It is given back by the
// next system call: who opens the file for writing in between waits for that, or, with
// O_NONBLOCK, has to try again.
func unwritten(f File) bool {
	o, ok := f.(*osFile)
	if !ok {
		return false
	}
	return o.with(func(f *os.File) error {
		fd := f.Fd()
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(fd), &st); err != nil || !slices.Contains(counting, int64(st.Type)) {
			return errors.ErrUnsupported
		}
		// Raw, so that nothing else is scheduled while the lease is held.
		if _, _, errno := unix.RawSyscall(unix.SYS_FCNTL, fd, unix.F_SETLEASE, unix.F_RDLCK); errno != 0 {
			return errno
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_FCNTL, fd, unix.F_SETLEASE, unix.F_UNLCK); errno != 0 {
			return errno
		}
		return nil
	}) == nil
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
func usesOf(proc string, pid int, wanted map[FileID]File, writing bool) []User {
	found := openIn(proc, wanted)
	var mapped []byte
	if !writing { // to print all mappings takes the kernel as long as all the rest
		mapped, _ = os.ReadFile(filepath.Join(proc, "maps"))
	}
	var list []User
	for id, f := range wanted {
		writes, open := found[id]
		if writes || !writing && (open || strings.Contains(string(mapped), fmt.Sprintf(" %02x:%02x %d ", unix.Major(id.Dev), unix.Minor(id.Dev), id.Ino))) {
			name, _ := os.ReadFile(filepath.Join(proc, "comm"))
			list = append(list, User{pid, strings.TrimSpace(string(name)), f, writes})
		}
	}
	return list
}

// openIn says which of the files a process has open, and whether for writing.
func openIn(proc string, wanted map[FileID]File) map[FileID]bool {
	found := map[FileID]bool{}
	fds, _ := os.ReadDir(filepath.Join(proc, "fd"))
	for _, fd := range fds {
		var st unix.Stat_t
		path := filepath.Join(proc, "fd", fd.Name())
		err := unix.Stat(path, &st)
		if err == unix.EACCES && barred(path) {
			return found
		}
		if id := (FileID{st.Dev, st.Ino}); err == nil && wanted[id] != nil {
			found[id] = found[id] || opensForWriting(filepath.Join(proc, "fdinfo", fd.Name()))
		}
	}
	return found
}

// barred reports whether the process whose file a link of /proc is may not be looked
// into: then all its links are. Otherwise it is the file that may not be seen.
func barred(link string) bool {
	_, err := os.Readlink(link)
	return errors.Is(err, unix.EACCES)
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
