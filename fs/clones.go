package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vdfs/fs/erofs"
	"vdfs/vdcore/storage"
)

// clones opens image files for the kernel, by mounts of their folders that are its own:
// see erofs.Clone. A clone of each file would do, but a chain has many, and giving up a
// mount takes the kernel longer than all the rest, with every other mount waiting.
type clones struct {
	folders map[string]*os.File
	files   []*os.File
}

// open opens a file in the clone of its folder. What has another name by now, or hides
// behind a link, is cloned by itself: its descriptor cannot be mistaken.
func (c *clones) open(f storage.File) error {
	file, err := c.beside(f)
	if err != nil {
		file, err = cloneOf(f)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path(), err)
	}
	c.files = append(c.files, file)
	return nil
}

// beside fails unless what is opened is the very file.
func (c *clones) beside(f storage.File) (*os.File, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	folder, err := c.folder(filepath.Dir(f.Path()))
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(folder.Fd()), filepath.Base(f.Path()), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), f.Path())
	var found unix.Stat_t
	if err := unix.Fstat(fd, &found); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if (storage.FileID{Dev: found.Dev, Ino: found.Ino}) != st.ID {
		return nil, errors.Join(storage.ErrChanged, file.Close())
	}
	return file, nil
}

func (c *clones) folder(dir string) (*os.File, error) {
	if clone, ok := c.folders[dir]; ok {
		return clone, nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	clone, err := erofs.Clone(fd)
	if err == nil {
		c.folders[dir] = clone
	}
	return clone, err
}

func (c *clones) close() {
	for _, f := range c.files {
		f.Close()
	}
	for _, f := range c.folders {
		f.Close()
	}
}

// cloneOf clones a file by its descriptor.
func cloneOf(f storage.File) (*os.File, error) {
	fd, release, err := f.Pin()
	if err != nil {
		return nil, err
	}
	defer release()
	return erofs.Clone(fd)
}
