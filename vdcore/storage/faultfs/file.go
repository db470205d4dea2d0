package faultfs

import "vdfs/vdcore/storage"

// sectorSize is where a short write ends.
const sectorSize = 512

// file passes on what is not counted.
type file struct {
	storage.File
	state *state
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if v := f.state.judge(Read, f.Path(), off, int64(len(p))); v.err != nil {
		return 0, v.err
	}
	return f.File.ReadAt(p, off)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	v := f.state.judge(Write, f.Path(), off, int64(len(p)))
	if v.err == nil {
		return f.File.WriteAt(p, off)
	}
	half := (off+int64(len(p))/2)/sectorSize*sectorSize - off
	if !v.short || half <= 0 {
		return 0, v.err
	}
	if n, err := f.File.WriteAt(p[:half], off); err != nil {
		return n, err
	}
	return int(half), v.err
}

func (f *file) Truncate(size int64) error {
	if v := f.state.judge(Truncate, f.Path(), size, 0); v.err != nil {
		return v.err
	}
	return f.File.Truncate(size)
}

func (f *file) Punch(off, n int64) error {
	if v := f.state.judge(Punch, f.Path(), off, n); v.err != nil {
		return v.err
	}
	return f.File.Punch(off, n)
}

func (f *file) Allocate(off, n int64) error {
	if v := f.state.judge(Allocate, f.Path(), off, n); v.err != nil {
		return v.err
	}
	return f.File.Allocate(off, n)
}

func (f *file) Sync() error { return f.sync(Sync, f.File.Sync) }

func (f *file) DataSync() error { return f.sync(DataSync, f.File.DataSync) }

func (f *file) sync(op Op, do func() error) error {
	v := f.state.judge(op, f.Path(), 0, 0)
	if v.err == nil {
		return do()
	}
	if below, ok := f.File.(interface{ SyncFailed() }); ok {
		below.SyncFailed()
	}
	return v.err
}
