package fs

import (
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vdfs/vdcore"
)

// writableFile is a disk that can be written: the topmost of a chain opened so.
// The core lets reads and writes of any ranges run in parallel, so nothing here
// takes a lock.
type writableFile struct {
	*diskFile
	top   *vdcore.Disk
	mtime atomic.Int64 // Unix time in nanoseconds
	// mappable counts how often the disk is open for reading and writing, which is
	// what a shared mapping takes. The mapping keeps it open.
	mappable atomic.Int64
	// written and discarded count the bytes that programs wrote and gave up.
	written, discarded atomic.Int64
}

func newWritableFile(f *diskFile, top *vdcore.Disk, mtime time.Time) *writableFile {
	w := &writableFile{diskFile: f, top: top}
	w.torn = false // the core writes to no chain of which something is lost
	w.touch(mtime)
	return w
}

func (f *writableFile) modified() time.Time { return time.Unix(0, f.mtime.Load()) }
func (f *writableFile) touch(t time.Time)   { f.mtime.Store(t.UnixNano()) }

// allocated is asked anew each time; the core remembers it until the map changes.
func (f *writableFile) allocated() int64 { return f.countStored() }

// read never splices: what lies in a pipe are the image's pages themselves, and
// they could be overwritten, or given to another place of the disk, on their way.
func (f *writableFile) read(buf []byte, off int64) (fuse.ReadResult, error) {
	return f.readBytes(buf, off)
}

// write writes all of p or as much of it as lies inside the disk; behind its end
// there is no space. It is the same with a block device.
func (f *writableFile) write(p []byte, off int64) (int, error) {
	if off < 0 || off >= f.size() {
		return 0, vdcore.ErrNoSpace
	}
	p = p[:min(int64(len(p)), f.size()-off)]
	n, err := f.top.WriteAt(p, off)
	f.written.Add(int64(n))
	f.touch(time.Now()) // after the bytes have changed, and even if not all of them did
	return len(p), f.reported("write", off, int64(len(p)), err)
}

func (f *writableFile) discard(off, n int64) error {
	err := f.top.Discard(off, n)
	f.touch(time.Now())
	if err == nil {
		f.discarded.Add(n)
	}
	return f.reported("discard", off, n, err)
}

func (f *writableFile) allocate(off, n int64) error {
	return f.reported("allocate", off, n, f.top.Allocate(off, n))
}

func (f *writableFile) sync() error { return f.reported("sync", 0, 0, f.top.Sync()) }

// reported logs an error, if it is one: programs often drop those of writing.
func (f *writableFile) reported(op string, off, n int64, err error) error {
	if err != nil {
		f.errors.report(op, f.path, off, n, err)
	}
	return err
}
