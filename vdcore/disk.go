package vdcore

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"vdfs/vdcore/storage"
)

// Flat is one extent of a disk as a whole: Extent.Kind is never Free.
type Flat struct {
	Extent
	Layer int          // that answers; -1 where no layer does (zeros, or lost with a missing parent)
	Path  string       // of the file, for Data and Packed
	File  storage.File // nil for the other kinds
}

// Disk is the content seen from one layer of a chain: a plain byte array.
type Disk struct {
	chain    *Chain
	layer    int
	capacity int64
	flat     *flatMap
	writer   *writer      // of the disk that can be written, else nil
	aheadEnd atomic.Int64 // guest offset up to which packed units are unpacked ahead
	// aheadFrom is where the reader began that they are unpacked ahead of.
	aheadFrom atomic.Int64

	allocated stored
}

// stored remembers how much of a disk, or of a part of it, is.
type stored struct {
	sync.Mutex
	known bool
	edits uint64 // when it was counted
	size  int64
}

// flatBlock stands for the block size of chains of flat files: they have few runs
// whatever the span of a leaf, and each leaf costs system calls to make.
const flatBlock = 8 << 20

func newDisk(c *Chain, layer int) *Disk {
	d := &Disk{chain: c, layer: layer, capacity: c.layers[layer].Info().Capacity}
	block := int64(0)
	for _, l := range c.layers[:layer+1] {
		if b := l.Info().BlockSize; b > 0 && (block == 0 || b < block) {
			block = b
		}
	}
	if block == 0 {
		block = flatBlock
	}
	if c.writer != nil && layer == c.writer.layer {
		d.writer = c.writer
		d.flat = newWriteMap(d.capacity, block, c.runs, &d.writer.mu, d.fill)
		return d
	}
	d.flat = newFlatMap(d.capacity, block, c.runs, d.fill)
	return d
}

// Capacity is the size of the disk in bytes.
func (d *Disk) Capacity() int64 { return d.capacity }

// Layer is the layer the disk is seen from.
func (d *Disk) Layer() *Layer { return d.chain.layers[d.layer] }

// fill walks the layers for one span of the flat map.
func (d *Disk) fill(off, n int64) ([]run, error) {
	runs, err := d.chain.resolve(d.layer, off, n)
	if err != nil {
		return nil, err
	}
	if d.writer != nil {
		return d.writer.pending(runs, off, off+n)
	}
	return runs, nil
}

// extent turns run i of a leaf that ends at end into an extent, clipped to begin
// at off.
func (d *Disk) extent(l *leaf, i int, off, end int64) Flat {
	r := &l.runs[i]
	if i+1 < len(l.runs) {
		end = l.runs[i+1].start
	}
	f := Flat{Layer: int(r.layer), Extent: Extent{
		Off: r.start, Len: end - r.start, Kind: r.kind, Pos: r.pos, Skip: int64(r.skip),
	}}
	f.Extent = f.Extent.Clip(off, end)
	if r.file >= 0 {
		p := d.chain.files.files[r.file]
		f.File, f.Path = p, p.Path()
		f.Extent.File = int(r.file) - d.chain.files.first[r.layer]
	}
	return f
}

// extentAt returns the extent that holds off, from there on.
func (d *Disk) extentAt(off int64) (Flat, error) {
	l, end, err := d.flat.at(off)
	if err != nil {
		return Flat{}, err
	}
	return d.extent(l, l.find(off), off, end), nil
}

// Each calls yield for the extents of [off, off+n) in order, not joined across
// the flat map's leaves, until it returns false.
func (d *Disk) Each(off, n int64, yield func(Flat) bool) error {
	stop := min(off+n, d.capacity)
	for off < stop {
		l, end, err := d.flat.at(off)
		if err != nil {
			return err
		}
		for i := l.find(off); i < len(l.runs) && off < stop; i++ {
			f := d.extent(l, i, off, end)
			f.Extent = f.Extent.Clip(off, stop)
			if !yield(f) {
				return nil
			}
			off = f.End()
		}
	}
	return nil
}

// ReadAt implements io.ReaderAt over the whole disk. Ranges that are lost fail
// with ErrLost; nothing is ever made up.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= d.capacity {
		return 0, io.EOF
	}
	if d.writer != nil { // no place may change hands under a read
		d.writer.gate.RLock()
		defer d.writer.gate.RUnlock()
	}
	want := min(int64(len(p)), d.capacity-off)
	done := 0
	var failed error
	err := d.Each(off, want, func(f Flat) bool {
		failed = d.readExtent(p[f.Off-off:f.End()-off], f)
		if failed == nil {
			done += int(f.Len)
		}
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return done, err
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// readExtent fills p, which is as long as f.
func (d *Disk) readExtent(p []byte, f Flat) error {
	var err error
	switch f.Kind {
	case Zero:
		clear(p)
	case Data:
		f.File.(*pinned).pin()
		if err = storage.ReadFull(f.File, p, f.Pos); err == io.ErrUnexpectedEOF {
			err = fmt.Errorf("%s: shorter than when it was opened: %w", f.Path, ErrCorrupt)
		}
	case Packed:
		err = d.chain.units.read(d, p, f)
	default:
		err = d.lost(f)
	}
	if err != nil && d.chain.opts.FillZero && (errors.Is(err, ErrLost) || errors.Is(err, ErrCorrupt)) {
		clear(p)
		return nil
	}
	return err
}

// lost says why a range cannot be read.
func (d *Disk) lost(f Flat) error {
	if f.Layer < 0 {
		return fmt.Errorf("guest bytes %d to %d: %w with the missing parent of %s", f.Off, f.End(), ErrLost, d.chain.layers[0].Path)
	}
	l := d.chain.layers[f.Layer]
	for _, x := range l.Info().Damage {
		if x.Off < f.End() && f.Off < x.Off+x.Len {
			return fmt.Errorf("%s: guest bytes %d to %d: %w: %w", l.Path, f.Off, f.End(), ErrLost, x.Err)
		}
	}
	return fmt.Errorf("%s: guest bytes %d to %d: %w", l.Path, f.Off, f.End(), ErrLost)
}

// DropTables lets go of the tables of the chain that were read so far. Somebody else
// knows the whole map of the disk by now.
func (d *Disk) DropTables() { d.chain.tables.drop() }

// Plain returns the file that is the disk, byte for byte; nil when there is none.
func (d *Disk) Plain() storage.File {
	if p, ok := d.Layer().Image.(Plain); ok {
		return p.Plain()
	}
	return nil
}

// Window returns the descriptor and position of [off, off+n) when one plain
// extent holds all of it, for handing the bytes on without copying them.
// release must be called when they are no longer needed. A disk that is written
// has none: what is in flight could be given to another unit.
func (d *Disk) Window(off, n int64) (fd int, pos int64, release func(), ok bool) {
	if off < 0 || n <= 0 || off+n > d.capacity || d.writer != nil {
		return -1, 0, nil, false
	}
	f, err := d.extentAt(off)
	if err != nil || f.Kind != Data || f.Len < n {
		return -1, 0, nil, false
	}
	fd, release, err = f.File.Pin()
	return fd, f.Pos, release, err == nil
}

// Hole reports whether all of [off, off+n) is one that SEEK_HOLE finds, and stays one: a
// disk that is written has none.
func (d *Disk) Hole(off, n int64) bool {
	if off < 0 || n <= 0 || off+n > d.capacity || d.writer != nil {
		return false
	}
	f, err := d.extentAt(off)
	return err == nil && f.isHole() && f.Len >= n
}

// isHole reports what SEEK_HOLE finds and SEEK_DATA passes over.
func (f Flat) isHole() bool { return f.Kind == Zero }

// SeekData returns the first offset at or after off that is not a hole, or
// io.EOF when only a hole follows.
func (d *Disk) SeekData(off int64) (int64, error) { return seek(d.Each, d.capacity, off, false) }

// SeekHole returns the first offset at or after off that reads as zeros because
// nothing is stored there, or the capacity when data goes on to the end.
func (d *Disk) SeekHole(off int64) (int64, error) { return seekHole(d.Each, d.capacity, off) }

// eacher walks over what a range consists of, as Disk.Each does.
type eacher func(off, n int64, f func(Flat) bool) error

func seekHole(each eacher, size, off int64) (int64, error) {
	at, err := seek(each, size, off, true)
	if err == io.EOF && off >= 0 && off < size {
		return size, nil
	}
	return at, err
}

// seek finds the next hole, or data, of what has size bytes. It is io.EOF where there is none.
func seek(each eacher, size, off int64, hole bool) (int64, error) {
	if off < 0 || off >= size {
		return 0, io.EOF
	}
	at := int64(-1)
	err := each(off, size-off, func(f Flat) bool {
		if f.isHole() == hole {
			at = f.Off
		}
		return at < 0
	})
	if err == nil && at < 0 {
		err = io.EOF
	}
	return at, err
}

// Allocated is how many bytes of the disk are stored somewhere in the chain. It
// is counted over the whole map, again when the map has changed since, unless the disk
// is one image, which knows.
func (d *Disk) Allocated() (int64, error) {
	base := d.chain.layers[0]
	if c, ok := base.Image.(Counted); ok && d.layer == 0 && d.writer == nil && base.Link.Verdict == LinkBase {
		if n, ok := c.Stored(); ok {
			return n, nil
		}
	}
	return d.count(&d.allocated, 0, d.capacity)
}

// count counts what is stored of [off, off+n).
func (d *Disk) count(c *stored, off, n int64) (int64, error) {
	c.Lock()
	defer c.Unlock()
	var edits uint64
	if d.writer != nil {
		edits = d.writer.edits.Load()
	}
	if c.known && c.edits == edits {
		return c.size, nil
	}
	size := int64(0)
	err := d.Each(off, n, func(f Flat) bool {
		if !f.isHole() {
			size += f.Len
		}
		return true
	})
	if err == nil {
		c.known, c.edits, c.size = true, edits, size
	}
	return size, err
}
