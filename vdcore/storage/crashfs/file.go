package crashfs

import (
	"io"
	"io/fs"
	"sync/atomic"
	"syscall"
	"time"

	"vdfs/vdcore/storage"
)

// File is an open file.
type File struct {
	disk     *disk
	path     string
	node     *inode
	writable bool
	closed   atomic.Bool
}

var _ storage.File = (*File)(nil)

// Path is the name the file was opened by.
func (f *File) Path() string { return f.path }

// usable reports why a file cannot be used.
func (f *File) usable(op string, write bool) error {
	switch {
	case f.closed.Load():
		return &fs.PathError{Op: op, Path: f.path, Err: fs.ErrClosed}
	case write && !f.writable:
		return &fs.PathError{Op: op, Path: f.path, Err: syscall.EBADF}
	}
	return nil
}

// change does one counted operation.
func (f *File) change(o Op, do func(op int)) error {
	if err := f.usable(o.Kind, true); err != nil {
		return err
	}
	if o.Off < 0 || o.Len < 0 {
		return &fs.PathError{Op: o.Kind, Path: f.path, Err: syscall.EINVAL}
	}
	o.Path = f.path
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.disk.mutate(o, func() { do(len(f.disk.ops)) })
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if err := f.usable("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.path, Err: syscall.EINVAL}
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n := f.node.read(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	err := f.change(Op{Kind: OpWrite, Off: off, Len: int64(len(p))}, func(op int) { f.node.write(op, p, off) })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Truncate changes the size.
func (f *File) Truncate(size int64) error {
	return f.change(Op{Kind: OpTruncate, Off: size}, func(op int) { f.node.resize(op, size) })
}

// Punch makes a hole.
func (f *File) Punch(off, n int64) error {
	return f.change(Op{Kind: OpPunch, Off: off, Len: n}, func(op int) { f.node.punch(op, off, n) })
}

// Allocate does nothing; it is counted, because it can fail.
func (f *File) Allocate(off, n int64) error {
	return f.change(Op{Kind: OpAllocate, Off: off, Len: n}, func(int) {})
}

// Sync makes the file's content and size durable.
func (f *File) Sync() error { return f.sync(OpSync) }

// DataSync does what Sync does.
func (f *File) DataSync() error { return f.sync(OpDataSync) }

// sync works on read-only files too, as fsync does.
func (f *File) sync(kind string) error {
	if err := f.usable(kind, false); err != nil {
		return err
	}
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	o := Op{Kind: kind, Path: f.path}
	lied := d.lie != nil && d.lie(f.path, f.node.pendingSectors())
	if lied {
		o.Note = " (a lie)"
	}
	err := d.mutate(o, func() {})
	if err == nil && !lied {
		f.node.sync()
	}
	return err
}

// SyncFailed tells the file that a sync of it was made to fail on its way here:
// what was pending is dropped, see the package's promises.
func (f *File) SyncFailed() {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.node.syncFailed()
}

// Stat counts as allocated what is not a hole. Modified is the number of the
// operation that changed the file last, in seconds.
func (f *File) Stat() (storage.Stat, error) {
	if err := f.usable("stat", false); err != nil {
		return storage.Stat{}, err
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	st := storage.Stat{Size: f.node.size, ID: storage.FileID{Ino: f.node.id}, Modified: time.Unix(int64(f.node.written), 0)}
	for _, s := range f.node.sectors {
		if s != nil {
			st.Allocated += SectorSize
		}
	}
	return st, nil
}

// NextData finds the next sector that was written and not punched.
func (f *File) NextData(off int64) (int64, error) { return f.next(off, false) }

// NextHole finds the next sector that is a hole.
func (f *File) NextHole(off int64) (int64, error) { return f.next(off, true) }

func (f *File) next(off int64, hole bool) (int64, error) {
	if err := f.usable("seek", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.path, Err: syscall.EINVAL}
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n := f.node
	for i := off / SectorSize; i < int64(len(n.sectors)); i++ {
		if (n.sectors[i] == nil) == hole {
			return max(off, i*SectorSize), nil
		}
	}
	return max(off, n.size), nil
}

// Guard has no locks to take.
func (f *File) Guard(_, _ []int64) (func(), error) { return func() {}, nil }

// Pin has no descriptor.
func (f *File) Pin() (int, func(), error) { return -1, nil, storage.ErrNoDescriptor }

// Close closes this open file; it makes nothing durable.
func (f *File) Close() error {
	if f.closed.Swap(true) {
		return nil
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.open--
	return nil
}
