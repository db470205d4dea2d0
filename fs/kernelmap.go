package fs

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vdfs/fs/erofs"
	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// shortcut is how this mount finds files for the kernel.
func (o *Options) shortcut() shortcut {
	switch {
	case o.KernelReads == KernelOff:
		return func(*diskFile, *limits) (kernelFile, bool, error) { return nil, false, errNotAsked }
	case o.find != nil:
		return o.find
	}
	return findFile
}

// findFile finds an image's own file where that is the disk, else a file the kernel
// puts together by the disk's map.
func findFile(f *diskFile, l *limits) (file kernelFile, plain bool, err error) {
	switch {
	case f.torn:
		return nil, false, errors.New("parts of the disk are lost")
	case f.size() == 0:
		return nil, false, errors.New("the disk is empty")
	}
	if p := f.disk().Plain(); p != nil {
		plain = true
		file, err = plainFile(p, f.size())
	} else {
		file, err = mapped(f.disk(), l)
	}
	if err != nil {
		return nil, plain, explainKernel(err)
	}
	return file, plain, nil
}

// explainKernel says what to do about the usual reasons.
func explainKernel(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("only root may hand the kernel a map (CAP_SYS_ADMIN): %w", err)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("this kernel has no EROFS (modprobe erofs): %w", err)
	case errors.Is(err, unix.ENOTBLK):
		return fmt.Errorf("EROFS on plain files takes Linux 6.12, and a file system that supports it: %w", err)
	}
	return err
}

// plainFile opens an image file anew, so that reading it moves no access time. The
// kernel reads all there is of it, so it must have the disk's size.
func plainFile(f storage.File, size int64) (*os.File, error) {
	tree, err := cloneOf(f)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	file, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", tree.Fd()))
	if err != nil {
		return nil, err
	}
	st, err := file.Stat()
	if err == nil && st.Size() != size {
		err = fmt.Errorf("%s has %d bytes now, and had %d when it was opened", f.Path(), st.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// mapped is a disk as a file of the kernel's.
func mapped(d guestDisk, l *limits) (kernelFile, error) {
	if err := erofs.Supported(); err != nil {
		return nil, err
	}
	ours, err := ourDevices()
	if err != nil {
		return nil, err
	}
	m := &diskMap{disk: d, stop: &l.stop, ours: ours, index: map[storage.File]int{}}
	m.source = erofs.Source{Size: d.Capacity(), Each: m.each, Content: d}
	plan, err := erofs.NewPlan(&m.source)
	if err != nil {
		return nil, err
	}
	if l.written+plan.Size() > maxMaps {
		return nil, fmt.Errorf("the maps of one mount may take %d MiB together", maxMaps>>20)
	}
	image, err := tempFile()
	if err != nil {
		return nil, fmt.Errorf("room for the kernel's map: %w", err)
	}
	defer image.Close()
	if err := plan.WriteTo(image); err != nil {
		return nil, fmt.Errorf("the kernel's map: %w", err)
	}
	file, err := m.mount(image)
	if err != nil {
		return nil, err
	}
	d.DropTables()
	l.written += plan.Size()
	return &mappedFile{file, l.hold(image, plan.Size())}, nil
}

const (
	maxMaps = 1 << 30  // bytes of disk all maps of a mount take
	maxHeld = 64 << 20 // bytes of memory
)

// mappedFile is a disk put together by the kernel.
type mappedFile struct {
	*os.File
	held []byte // its map; nil if not in memory
}

// hold keeps a map in memory, if there is room. It is looked at again and again, and
// when EROFS has to read a page of it from ext4, that warns in the kernel's log of a
// lock it misses (seen with 6.18; what is read is right).
func (l *limits) hold(image *os.File, size int64) []byte {
	if l.held+size > maxHeld {
		return nil
	}
	held, err := unix.Mmap(int(image.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	if unix.Mlock(held) != nil {
		unix.Munmap(held)
		return nil
	}
	l.held += size
	return held
}

func (f *mappedFile) Close() error {
	err := f.File.Close()
	if f.held != nil {
		err = errors.Join(err, unix.Munmap(f.held))
	}
	return err
}

// diskMap is the flat map of a disk in the words of EROFS. Its devices are the files
// that hold something of the disk, in the order in which they are met.
type diskMap struct {
	disk   guestDisk
	stop   *atomic.Bool
	ours   map[string]bool // see ourDevices
	source erofs.Source
	files  []storage.File
	index  map[storage.File]int
}

func (m *diskMap) each(yield func(erofs.Extent) bool) error {
	var failed error
	err := m.disk.Each(0, m.disk.Capacity(), func(f vdcore.Flat) bool {
		var e erofs.Extent
		if e, failed = m.extent(f); m.stop.Load() {
			failed = errStopped
		}
		return failed == nil && yield(e)
	})
	return errors.Join(err, failed)
}

func (m *diskMap) extent(f vdcore.Flat) (erofs.Extent, error) {
	e := erofs.Extent{Off: f.Off, Len: f.Len, Device: erofs.Hole}
	var err error
	switch f.Kind {
	case vdcore.Data:
		e.Pos = f.Pos
		e.Device, err = m.device(f.File)
	case vdcore.Packed:
		e.Device = erofs.Copy
	case vdcore.Lost:
		e.Device = erofs.Copy // --fill=zero makes zeros of it, or else it cannot be read
	}
	return e, err
}

// device is the number of a file, which gets one when it is first met.
func (m *diskMap) device(f storage.File) (int, error) {
	n, ok := m.index[f]
	if ok {
		return n, nil
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if m.ours[fmt.Sprintf("%d:%d", unix.Major(st.ID.Dev), unix.Minor(st.ID.Dev))] {
		return 0, fmt.Errorf("%s lies in a mount of vdfs itself", f.Path())
	}
	n = len(m.files)
	m.index[f], m.files = n, append(m.files, f)
	m.source.Devices = append(m.source.Devices, st.Size)
	return n, nil
}

// ourDevices are the mounts of vdfs, as major:minor. An image in one of them is not
// for the kernel: it counts no depth through EROFS's devices, and its stack has an end.
func ourDevices() (map[string]bool, error) {
	mounts, err := Mounts()
	ours := map[string]bool{}
	for _, e := range mounts {
		ours[e.Device] = true
	}
	return ours, err
}

func (m *diskMap) mount(image *os.File) (*os.File, error) {
	if !storage.Room(len(m.files)) {
		return nil, fmt.Errorf("the map takes %d files open at once, for a moment: %w (ulimit -n)", len(m.files), unix.EMFILE)
	}
	c := clones{folders: map[string]*os.File{}}
	defer c.close()
	for _, f := range m.files {
		if err := c.open(f); err != nil {
			return nil, err
		}
	}
	return erofs.Mount(image, c.files)
}

// tempFile opens a file that has no name. The kernel reads maps from file systems on
// disk only, not from memory.
func tempFile() (*os.File, error) {
	var errs []error
	for _, dir := range []string{cmp.Or(os.Getenv("TMPDIR"), "/var/tmp"), "/var/tmp", "/tmp"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC) {
			errs = append(errs, fmt.Errorf("%s lies in memory", dir))
			continue
		}
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return os.NewFile(uintptr(fd), dir), nil
		}
		errs = append(errs, &os.PathError{Op: "make a file in", Path: dir, Err: err})
	}
	return nil, errors.Join(errs...)
}
