package fs

import (
	"io"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// guestDisk is what can be read of a disk, or of a partition of one.
type guestDisk interface {
	io.ReaderAt
	Capacity() int64
	Each(off, n int64, yield func(vdcore.Flat) bool) error
	Plain() storage.File
	Window(off, n int64) (fd int, pos int64, release func(), ok bool)
	Hole(off, n int64) bool
	SeekData(off int64) (int64, error)
	SeekHole(off int64) (int64, error)
	Allocated() (int64, error)
	DropTables()
}

// diskFile is a disk, or a partition of one, as a file.
type diskFile struct {
	length int64
	path   string // inside the mount, for messages
	errors *ioErrors
	// disk makes the disk's map at first use: of hundreds of snapshots few are
	// ever looked at.
	disk func() guestDisk
	// stored is the disk's allocated size. It takes a walk over the whole map, so
	// it is asked for when somebody looks at the file.
	stored func() int64
	// torn: parts of the disk are lost, so it is read past the page cache. A page
	// holds good bytes and lost ones where a file was cut off inside it, and only
	// a request for exactly the good ones can be answered.
	torn bool
}

func newDiskFile(c *vdcore.Chain, layer int, errs *ioErrors) *diskFile {
	f := &diskFile{length: c.Layers()[layer].Info().Capacity, errors: errs}
	f.torn = c.IncompleteAt(layer) && !c.Options().FillZero
	f.disk = sync.OnceValue(func() guestDisk { return c.Disk(layer) })
	f.stored = sync.OnceValue(f.countStored)
	return f
}

// countStored takes a disk whose map cannot be read for full.
func (f *diskFile) countStored() int64 {
	n, err := f.disk().Allocated()
	if err != nil {
		f.errors.report("read", f.path, 0, 1, err)
		return f.size()
	}
	return n
}

func (f *diskFile) size() int64      { return f.length }
func (f *diskFile) allocated() int64 { return f.stored() }

func (f *diskFile) direct() bool { return f.torn }

// nothing is what holes read as. Nobody writes to it, so that it takes no memory but
// one page of zeros, which stays in the processor's cache. The kernel reads ahead into
// the holes of a sparse disk, however little of it is asked for.
var nothing [maxWriteTransfer]byte

func (f *diskFile) read(buf []byte, off int64) (fuse.ReadResult, error) {
	if n := min(int64(len(buf)), f.size()-off); n >= spliceMin {
		if n <= int64(len(nothing)) && f.disk().Hole(off, n) {
			return newBytes(nothing[:n]), nil
		}
		if r := newPipeReply(f, off, n); r != nil {
			return r, nil
		}
	}
	return f.readBytes(buf, off)
}

// readBytes reads through memory.
func (f *diskFile) readBytes(buf []byte, off int64) (fuse.ReadResult, error) {
	n := min(int64(len(buf)), f.size()-off)
	if n <= 0 {
		return noBytes, nil
	}
	got, err := f.readFull(buf[:n], off)
	if err != nil && (got == 0 || !f.torn) {
		return nil, err
	}
	return newBytes(buf[:got]), nil // shorter where a torn disk stops being good
}

// readFull fills p, or says how far it came; off lies inside the disk and p does
// not reach over its end.
func (f *diskFile) readFull(p []byte, off int64) (int, error) {
	n, err := f.disk().ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	f.errors.report("read", f.path, off, int64(len(p)), err)
	return n, err
}

func (f *diskFile) seek(off int64, hole bool) (int64, error) {
	find := f.disk().SeekData
	if hole {
		find = f.disk().SeekHole
	}
	at, err := find(off)
	if err == io.EOF {
		return 0, syscall.ENXIO
	}
	return at, err
}
