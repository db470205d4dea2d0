package storage

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// place is a name in an open folder, so that what is done with the name does not
// follow links out of the allowed folders.
type place struct {
	dir  *os.File
	base string
}

func (o *OS) place(path string) (place, error) {
	d, rel, err := o.locate(path)
	if err != nil {
		return place{}, err
	}
	root, err := d.open()
	if err != nil {
		return place{}, err
	}
	dir, err := root.Open(filepath.Dir(rel))
	if err != nil {
		return place{}, o.explain(filepath.Dir(path), err)
	}
	return place{dir, filepath.Base(rel)}, nil
}

func (p place) fd() int { return int(p.dir.Fd()) }

func (p place) stat() (st unix.Stat_t, err error) {
	return st, unix.Fstatat(p.fd(), p.base, &st, unix.AT_SYMLINK_NOFOLLOW)
}

// named does something with two names, and makes both folders durable, that of the
// new name first.
func (o *OS) named(op, old, path string, do func(from, to place) error) error {
	from, err := o.place(old)
	if err != nil {
		return err
	}
	defer from.dir.Close()
	to, err := o.place(path)
	if err != nil {
		return err
	}
	defer to.dir.Close()
	if err := do(from, to); err != nil {
		return &os.LinkError{Op: op, Old: old, New: path, Err: err}
	}
	if err := o.SyncDir(filepath.Dir(path)); err != nil || filepath.Dir(old) == filepath.Dir(path) {
		return err
	}
	return o.SyncDir(filepath.Dir(old))
}

// Rename moves a file within the allowed folders. Where the file system cannot
// refuse to replace by itself, it is asked before, and whoever makes a file of that
// name in between loses it.
func (o *OS) Rename(old, path string) error {
	return o.named("rename", old, path, func(from, to place) error {
		err := unix.Renameat2(from.fd(), from.base, to.fd(), to.base, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return err
		}
		switch _, err := to.stat(); {
		case err == nil:
			return unix.EEXIST
		case !errors.Is(err, unix.ENOENT):
			return err
		}
		return unix.Renameat(from.fd(), from.base, to.fd(), to.base)
	})
}

// Replace moves a file of an allowed folder onto another one.
func (o *OS) Replace(old, path string) error {
	return o.named("replace", old, path, func(from, to place) error {
		if _, err := to.stat(); err != nil {
			return err
		}
		return unix.Renameat(from.fd(), from.base, to.fd(), to.base)
	})
}

// Link gives a file of an allowed folder a second name.
func (o *OS) Link(old, path string) error {
	return o.named("link", old, path, func(from, to place) error {
		err := unix.Linkat(from.fd(), from.base, to.fd(), to.base, 0)
		if errors.Is(err, unix.EPERM) { // what file systems without links say
			return errors.ErrUnsupported
		}
		return err
	})
}

// CopyOwner goes by names and does not follow links.
func (o *OS) CopyOwner(model, path string) error {
	from, err := o.place(model)
	if err != nil {
		return err
	}
	defer from.dir.Close()
	st, err := from.stat()
	if err != nil {
		return &os.PathError{Op: "stat", Path: model, Err: err}
	}
	to, err := o.place(path)
	if err != nil {
		return err
	}
	defer to.dir.Close()
	own, err := to.stat()
	if err == nil && (own.Uid != st.Uid || own.Gid != st.Gid) {
		err = unix.Fchownat(to.fd(), to.base, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = unix.Fchmodat(to.fd(), to.base, st.Mode&0o7777, 0)
	}
	if err != nil {
		return &os.PathError{Op: "chown", Path: path, Err: err}
	}
	return nil
}
