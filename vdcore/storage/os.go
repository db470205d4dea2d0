package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxList bounds the entries looked at in one folder.
const maxList = 20000

// OS is the host's file system, confined to a set of folders.
type OS struct {
	folders []*folder // most specific first when paths nest is decided at Open
	search  []string
	pool    *pool
}

var _ FS = (*OS)(nil)

// folder is one allowed folder; its os.Root is opened at first use.
type folder struct {
	path string
	once sync.Once
	root *os.Root
	err  error
}

func (d *folder) open() (*os.Root, error) {
	d.once.Do(func() { d.root, d.err = os.OpenRoot(d.path) })
	return d.root, d.err
}

// NewOS confines to the folder of image, the folder above it, and the search
// folders. image must be absolute with symbolic links resolved; the search
// folders are the user's own words and are resolved here.
func NewOS(image string, search ...string) (*OS, error) {
	own := filepath.Dir(image)
	o := &OS{pool: &pool{}}
	o.allow(own)
	if up := filepath.Dir(own); up != "/" { // an image in /tmp does not open the whole machine
		o.allow(up)
	}
	for _, s := range search {
		p, err := Resolve(s)
		if err != nil {
			return nil, err
		}
		if st, err := os.Stat(p); err != nil {
			return nil, err
		} else if !st.IsDir() {
			return nil, &fs.PathError{Op: "search", Path: p, Err: syscall.ENOTDIR}
		}
		o.allow(p)
		o.search = append(o.search, p)
	}
	return o, nil
}

// Resolve makes a path the user gave absolute and free of symbolic links.
func Resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

func (o *OS) allow(dir string) {
	for _, d := range o.folders {
		if d.path == dir {
			return
		}
	}
	o.folders = append(o.folders, &folder{path: dir})
}

// Search names the folders the user added.
func (o *OS) Search() []string { return slices.Clone(o.search) }

// Below narrows to dir, when dir is allowed at all, and the search folders.
func (o *OS) Below(dir string) FS {
	n := &OS{pool: o.pool, search: o.search}
	for _, d := range o.folders {
		if slices.Contains(o.search, d.path) || d.path == dir {
			n.folders = append(n.folders, d) // the os.Root is shared
		}
	}
	if root, rel, err := o.locate(dir); err == nil && !slices.ContainsFunc(n.folders, func(d *folder) bool { return d.path == dir }) {
		n.folders = append(n.folders, subfolder(root, dir, rel))
	}
	return n
}

// subfolder is a folder inside an allowed one, opened through it so that no
// symbolic link leads out.
func subfolder(parent *folder, path, rel string) *folder {
	d := &folder{path: path}
	d.once.Do(func() {
		var root *os.Root
		if root, d.err = parent.open(); d.err == nil {
			d.root, d.err = root.OpenRoot(rel)
		}
	})
	return d
}

// locate finds an allowed folder path lies in, and its name there.
func (o *OS) locate(path string) (*folder, string, error) {
	for _, d := range o.folders {
		if rel, ok := inside(d.path, path); ok {
			return d, rel, nil
		}
	}
	return nil, "", o.outside(path)
}

func (o *OS) outside(path string) error {
	names := make([]string, len(o.folders))
	for i, d := range o.folders {
		names[i] = d.path
	}
	return fmt.Errorf("%s: %w (%s); if it is trusted, allow its folder with --search", path, ErrOutside, strings.Join(names, ", "))
}

func inside(dir, path string) (rel string, ok bool) {
	rel, err := filepath.Rel(dir, path)
	return rel, err == nil && filepath.IsLocal(rel)
}

// Open opens a file of an allowed folder. A symbolic link may lead from one
// allowed folder into another, so each that holds the path is tried.
func (o *OS) Open(path string, mode Mode) (File, error) {
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid}
	}
	path = filepath.Clean(path)
	var first error
	for _, d := range o.folders {
		rel, ok := inside(d.path, path)
		if !ok {
			continue
		}
		f, err := o.openIn(d, path, rel, mode)
		if err == nil || errors.Is(err, ErrLocked) {
			return f, err
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = o.outside(path)
	}
	return nil, first
}

func (o *OS) openIn(d *folder, path, rel string, mode Mode) (File, error) {
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	if !mode.Creates() {
		st, err := root.Stat(rel)
		if err != nil {
			return nil, o.explain(path, err)
		}
		if !st.Mode().IsRegular() { // never open a device: that alone can act
			return nil, &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w (%s)", ErrNotRegular, kindOf(st.Mode()))}
		}
	}
	reopen := func() (*os.File, error) { return openRoot(root, rel, mode) }
	f, err := reopen()
	if err != nil {
		return nil, o.explain(path, err)
	}
	opened, err := statRegular(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	if mode.Creates() { // reopening must not create again
		reopen = func() (*os.File, error) { return openRoot(root, rel, ReadWrite) }
	}
	return newOSFile(path, f, opened, o.pool, reopen), nil
}

// openRoot opens without following the name out of root and, reading, without
// touching the access time when the kernel lets us.
func openRoot(root *os.Root, rel string, mode Mode) (*os.File, error) {
	switch mode {
	case ReadWrite:
		return openLeased(func() (*os.File, error) { return root.OpenFile(rel, os.O_RDWR|syscall.O_NONBLOCK, 0) })
	case Create:
		return root.OpenFile(rel, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	case CreatePrivate:
		return root.OpenFile(rel, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	f, err := root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOATIME, 0)
	if errors.Is(err, syscall.EPERM) { // O_NOATIME is the owner's right
		f, err = root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	return f, err
}

// explain turns os.Root's unnamed "path escapes" into ErrOutside: every other
// failure it reports carries an errno or one of fs's sentinels.
func (o *OS) explain(path string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w (a symbolic link leads there)", o.outside(path))
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeDevice != 0:
		return "a device"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a special file"
}

// List names the regular files, and the symbolic links, directly in dir.
func (o *OS) List(dir string) ([]string, error) {
	d, rel, err := o.locate(dir)
	if err != nil {
		return nil, err
	}
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	f, err := root.Open(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := entriesOf(f)
	switch {
	case err == io.EOF: // an empty folder
		err = nil
	case err == nil && len(entries) == maxList:
		err = fmt.Errorf("%s: %w: only the first %d are looked at", dir, ErrTooMany, maxList)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() || e.Type()&fs.ModeSymlink != 0 {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, err
}

// entriesOf reads the entries of a folder. A file of an os.Root would stat each of them,
// and folders have thousands; its duplicate takes the file system's word for their types.
func entriesOf(f *os.File) ([]fs.DirEntry, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	plain := os.NewFile(uintptr(fd), f.Name())
	defer plain.Close()
	return plain.ReadDir(maxList)
}

// Remove deletes a file of an allowed folder.
func (o *OS) Remove(path string) error {
	d, rel, err := o.locate(path)
	if err != nil {
		return err
	}
	root, err := d.open()
	if err != nil {
		return err
	}
	if err := root.Remove(rel); err != nil {
		return o.explain(path, err)
	}
	return o.SyncDir(filepath.Dir(path))
}

// SyncDir flushes an allowed folder.
func (o *OS) SyncDir(dir string) error {
	d, rel, err := o.locate(dir)
	if err != nil {
		return err
	}
	root, err := d.open()
	if err != nil {
		return err
	}
	f, err := root.Open(rel)
	if err != nil {
		return o.explain(dir, err)
	}
	defer f.Close()
	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) { // file systems without such a thing
		return err
	}
	return nil
}

// Close lets go of the allowed folders. Open files stay usable until parked.
func (o *OS) Close() error {
	var errs []error
	for _, d := range o.folders {
		if d.root != nil {
			errs = append(errs, d.root.Close())
		}
	}
	return errors.Join(errs...)
}
