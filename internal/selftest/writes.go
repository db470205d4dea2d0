package selftest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// attempt is a way to change something, which must fail.
type attempt struct {
	name string
	do   func(path string) error
}

// onFiles are ways to change a file.
var onFiles = []attempt{
	{"open for writing", func(p string) error { return opens(p, unix.O_WRONLY) }},
	{"open for reading and writing", func(p string) error { return opens(p, unix.O_RDWR) }},
	{"open and truncate", func(p string) error { return opens(p, unix.O_RDONLY|unix.O_TRUNC) }},
	{"truncate", func(p string) error { return unix.Truncate(p, 0) }},
	{"allocate", func(p string) error { return withFile(p, func(fd int) error { return unix.Fallocate(fd, 0, 0, 4096) }) }},
	{"punch a hole", func(p string) error {
		return withFile(p, func(fd int) error {
			return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		})
	}},
	{"map for writing", func(p string) error { return withFile(p, mapWritable) }},
	{"change the mode", func(p string) error { return unix.Chmod(p, 0o666) }},
	{"change the owner", func(p string) error { return unix.Chown(p, os.Geteuid(), os.Getegid()) }},
	{"change the times", func(p string) error { return unix.Utimes(p, make([]unix.Timeval, 2)) }},
	{"set an attribute", func(p string) error { return unix.Setxattr(p, "user.vdfs.selftest", []byte("x"), 0) }},
	{"rename", func(p string) error { return unix.Rename(p, p+".new") }},
	{"link", func(p string) error { return unix.Link(p, p+".new") }},
	{"remove", unix.Unlink},
}

// onFolders are ways to change a folder.
var onFolders = []attempt{
	{"make a file", func(p string) error { return opens(filepath.Join(p, "new"), unix.O_RDWR|unix.O_CREAT) }},
	{"make a folder", func(p string) error { return unix.Mkdir(filepath.Join(p, "new"), 0o777) }},
	{"make a symbolic link", func(p string) error { return unix.Symlink("x", filepath.Join(p, "new")) }},
	{"make a pipe", func(p string) error { return unix.Mknod(filepath.Join(p, "new"), unix.S_IFIFO|0o666, 0) }},
	{"remove a folder", unix.Rmdir},
}

func opens(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// withFile does something with a file that is open for reading.
func withFile(path string, do func(fd int) error) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // counts as possible: it must be readable
	}
	defer f.Close()
	return do(int(f.Fd()))
}

func mapWritable(fd int) error {
	page, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	return unix.Munmap(page)
}

// writes tries to change everything in the mount in all ways.
func (t *trial) writes(when string) {
	for _, a := range onFiles {
		t.attempts(when+a.name, "files", a, t.files)
	}
	for _, a := range onFolders {
		t.attempts(when+a.name, "folders", a, t.dirs)
	}
}

func (t *trial) attempts(check, what string, a attempt, paths []string) {
	var faults, errnos []string
	for _, p := range paths {
		switch err := a.do(p); {
		case err == nil:
			faults = append(faults, strings.TrimPrefix(p, t.mnt)+": done")
		case errors.Is(err, unix.EIO), errors.Is(err, unix.ENOENT):
			faults = append(faults, fmt.Sprintf("%s: %v", strings.TrimPrefix(p, t.mnt), err))
		case !slices.Contains(errnos, errnoName(err)):
			errnos = append(errnos, errnoName(err))
		}
	}
	t.tell(check, fmt.Sprintf("refused for %d %s (%s)", len(paths), what, strings.Join(errnos, ", ")), faults...)
}
