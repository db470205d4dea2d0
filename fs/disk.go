package fs

import (
	"io"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vdfs/vdcore"
)

// diskFile is a disk as a file.
type diskFile struct {
	layer  *vdcore.Layer
	path   string // inside the mount, for messages
	errors *readErrors
	// disk makes the disk's map at first use: of hundreds of snapshots few are
	// ever looked at.
	disk func() *vdcore.Disk
	// stored is the disk's allocated size. It takes a walk over the whole map, so
	// it is asked for when somebody looks at the file.
	stored func() int64
}

func newDiskFile(c *vdcore.Chain, layer int, errs *readErrors) *diskFile {
	f := &diskFile{layer: c.Layers()[layer], errors: errs}
	f.disk = sync.OnceValue(func() *vdcore.Disk { return c.Disk(layer) })
	f.stored = sync.OnceValue(f.countStored)
	return f
}

// countStored takes a disk whose map cannot be read for full.
func (f *diskFile) countStored() int64 {
	n, err := f.disk().Allocated()
	if err != nil {
		f.errors.report(f.path, 0, f.size(), err)
		return f.size()
	}
	return n
}

func (f *diskFile) size() int64      { return f.layer.Info().Capacity }
func (f *diskFile) allocated() int64 { return f.stored() }

func (f *diskFile) read(buf []byte, off int64) (fuse.ReadResult, error) {
	n := min(int64(len(buf)), f.size()-off)
	if n <= 0 {
		return noBytes, nil
	}
	if n >= spliceMin {
		if w := openWindow(f, off, n); w != nil {
			return w, nil
		}
	}
	if err := f.readFull(buf[:n], off); err != nil {
		return nil, err
	}
	return newBytes(buf[:n]), nil
}

// readFull fills p or fails; off lies inside the disk and p does not reach over
// its end.
func (f *diskFile) readFull(p []byte, off int64) error {
	n, err := f.disk().ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	f.errors.report(f.path, off, int64(len(p)), err)
	return err
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
