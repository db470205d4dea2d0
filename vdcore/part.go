package vdcore

import (
	"errors"
	"io"

	"vdfs/vdcore/storage"
)

// Part is a range of a disk as if it were a disk itself: a partition. It does what Disk
// does, counts from its own beginning, and holds nothing but how much of it is stored.
type Part struct {
	disk      *Disk
	off, size int64
	allocated stored
}

// Part is the range [off, off+n), which must lie inside the disk.
func (d *Disk) Part(off, n int64) (*Part, error) {
	if off < 0 || n < 0 || off > d.capacity-n {
		return nil, errors.New("a part that reaches over the end of the disk")
	}
	return &Part{disk: d, off: off, size: n}, nil
}

// Capacity is the size of the part in bytes.
func (p *Part) Capacity() int64 { return p.size }

// Each is Disk.Each; the extents count from the beginning of the part.
func (p *Part) Each(off, n int64, yield func(Flat) bool) error {
	return p.disk.Each(p.off+off, min(n, p.size-off), func(f Flat) bool {
		f.Off -= p.off
		return yield(f)
	})
}

// ReadAt implements io.ReaderAt over the part.
func (p *Part) ReadAt(b []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, errors.New("negative offset")
	case off >= p.size:
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.size-off)
	done, err := p.disk.ReadAt(b[:n], p.off+off)
	if err == nil && done < len(b) {
		err = io.EOF
	}
	return done, err
}

// Plain is nil: no file is a part of a disk and nothing else.
func (p *Part) Plain() storage.File { return nil }

// DropTables is Disk.DropTables.
func (p *Part) DropTables() { p.disk.DropTables() }

// Window is Disk.Window.
func (p *Part) Window(off, n int64) (fd int, pos int64, release func(), ok bool) {
	if off < 0 || n <= 0 || off > p.size-n {
		return -1, 0, nil, false
	}
	return p.disk.Window(p.off+off, n)
}

// Hole is Disk.Hole.
func (p *Part) Hole(off, n int64) bool {
	return off >= 0 && n > 0 && off <= p.size-n && p.disk.Hole(p.off+off, n)
}

// SeekData is Disk.SeekData.
func (p *Part) SeekData(off int64) (int64, error) { return seek(p.Each, p.size, off, false) }

// SeekHole is Disk.SeekHole.
func (p *Part) SeekHole(off int64) (int64, error) { return seekHole(p.Each, p.size, off) }

// Allocated is Disk.Allocated, of the part.
func (p *Part) Allocated() (int64, error) { return p.disk.count(&p.allocated, p.off, p.size) }
