package vdcore

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// syncAge is how long what was written may wait for its tables, so that a
	// killed process loses little.
	syncAge = 5 * time.Second
	// maxFresh and maxSpans bound the memory that waiting units take: 100 bytes a
	// unit, 16 a range written in it.
	maxFresh = 1 << 14
	maxSpans = 1 << 19
)

// writer changes the topmost image of a chain; doc.go says how, and in which order
// its locks are taken.
type writer struct {
	chain *Chain
	disk  *Disk
	img   Writer
	layer int
	files []*pinned     // of the image
	dirty []atomic.Bool // of each file: written since its last barrier

	commits sync.Mutex   // one commit or discard at a time
	gate    sync.RWMutex // shared by reads and writes; taken alone before a place changes hands

	began  atomic.Bool
	failed atomic.Pointer[error] // a barrier failed: nothing can be promised any more
	edits  atomic.Uint64         // changes of the map, so far
	// refilling: places that are given back are about to be filled or cut off, and making
	// holes of them would be waste. Set before anything is given back.
	refilling bool

	mu      sync.Mutex       // guards what follows, the image, and changes of the disk's leaves
	fresh   map[int64]*fresh // units with a place no table knows yet, by offset
	spans   int              // ranges written in them, about
	freed   map[int64]Change // units to become Zero or Free, by offset
	retired map[Place]int64  // places, and their sizes, that lost their unit and are in the tables still
	timer   *time.Timer      // of the next commit by age; nil when nothing waits
}

func newWriter(c *Chain, img Writer) *writer {
	layer := len(c.layers) - 1
	w := &writer{
		chain: c, img: img, layer: layer, files: c.files.files[c.files.first[layer]:],
		fresh: map[int64]*fresh{}, freed: map[int64]Change{}, retired: map[Place]int64{},
	}
	w.dirty = make([]atomic.Bool, len(w.files))
	w.files[0].pin() // a temporary overlay has no name to be opened by again
	return w
}

// Writable reports whether WriteAt and the other changes below are possible: the
// disk is what the topmost image of a chain opened with Options.Write shows.
func (d *Disk) Writable() bool { return d.writer != nil }

// WriteAt implements io.WriterAt. A write that reaches past the end of the disk is
// cut there and fails with ErrNoSpace. Once it returns, every reader sees it; it
// is durable after the next Sync. After an error each sector written to reads as
// before or as it should.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	if d.writer == nil {
		return 0, d.refuse()
	}
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := min(int64(len(p)), max(d.capacity-off, 0))
	done, err := d.writer.write(p[:n], off)
	if err == nil && done < len(p) {
		err = fmt.Errorf("%s: write at %d: %w at %d", d.Layer().Path, off, ErrNoSpace, d.capacity)
	}
	return done, err
}

// Discard makes [off, off+n) read as zeros and gives up the space of whole units.
// What lies past the end of the disk is left out.
func (d *Disk) Discard(off, n int64) error {
	if d.writer == nil {
		return d.refuse()
	}
	if off < 0 || n < 0 {
		return errors.New("negative range")
	}
	return d.writer.discard(off, min(n, max(d.capacity-off, 0)))
}

// Allocate makes sure that writing to [off, off+n) will not fail for want of space.
// storage.ErrNoAllocate where the image's file system cannot promise that.
func (d *Disk) Allocate(off, n int64) error {
	if d.writer == nil {
		return d.refuse()
	}
	if off < 0 || n < 0 || n > d.capacity-off {
		return fmt.Errorf("%s: allocate %d bytes at %d: %w at %d", d.Layer().Path, n, off, ErrNoSpace, d.capacity)
	}
	return d.writer.allocate(off, n)
}

// Sync makes everything written so far durable. An error means that some of it is
// not; after a failed barrier that stays so, and every later change fails too.
func (d *Disk) Sync() error {
	if d.writer == nil {
		return nil
	}
	return d.writer.commit()
}

func (d *Disk) refuse() error { return fmt.Errorf("%s: %w", d.Layer().Path, ErrReadOnly) }

// write writes p. When there is no room, what waits to be given back may make some.
func (w *writer) write(p []byte, off int64) (done int, err error) {
	done, err = w.writeShared(p, off)
	if err != nil && w.mayMakeRoom(err) {
		if cerr := w.commit(); cerr != nil {
			return done, errors.Join(err, cerr)
		}
		var n int
		n, err = w.writeShared(p[done:], off+int64(done))
		done += n
	}
	if err == nil && w.crowded() {
		err = w.commit()
	}
	return done, err
}

// mayMakeRoom reports whether a commit could cure an error.
func (w *writer) mayMakeRoom(err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Is(err, syscall.ENOSPC) && len(w.retired) > 0
}

func (w *writer) writeShared(p []byte, off int64) (done int, err error) {
	w.gate.RLock()
	defer w.gate.RUnlock()
	if err := w.begin(); err != nil {
		return 0, err
	}
	for done < len(p) && err == nil {
		var n int
		n, err = w.step(p[done:], off+int64(done))
		done += n
	}
	return done, err
}

// begin readies the image before its first change, and refuses changes after a
// failed barrier.
func (w *writer) begin() error { return w.beginAs(w.chain.opts.MergeChild == "") }

// beginAs is begin; renew is for a change of the content.
func (w *writer) beginAs(renew bool) error {
	if err := w.failed.Load(); err != nil {
		return *err
	}
	if w.began.Load() {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began.Load() {
		return nil
	}
	if err := w.img.Begin(renew); err != nil {
		return fmt.Errorf("%s: %w", w.path(), err)
	}
	w.began.Store(true)
	return nil
}

func (w *writer) path() string { return w.chain.layers[w.layer].Path }

// step writes as much of p as one extent or unit takes. 0 bytes without an error
// mean that the map changed meanwhile: look again.
func (w *writer) step(p []byte, off int64) (int, error) {
	f, err := w.disk.extentAt(off)
	if err != nil {
		return 0, err
	}
	if w.owns(f) {
		return w.writeFile(f.Extent.File, p[:min(int64(len(p)), f.Len)], f.Pos)
	}
	u := w.unit(off)
	p = p[:min(int64(len(p)), u.End()-off)]
	if f.Kind == Zero && f.Len >= int64(len(p)) && isZero(p) {
		return len(p), nil
	}
	if u.Fixed {
		return w.writeFixed(u, p[:min(int64(len(p)), f.Len)], off)
	}
	if int64(len(p)) == u.Len && isZero(p) && w.img.Can(Zero) && w.zeroUnit(u) {
		return len(p), nil
	}
	return w.writeFresh(u, p, off)
}

// owns reports whether the topmost image holds an extent, so that it is
// overwritten in place.
func (w *writer) owns(f Flat) bool { return f.Kind == Data && f.Layer == w.layer }

func (w *writer) unit(off int64) Unit {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.img.Unit(off)
}

// writeFile writes to a file of the image. The file counts as dirty only after the
// write: a barrier before it must not take the mark away.
func (w *writer) writeFile(file int, p []byte, pos int64) (int, error) {
	f := w.files[file]
	f.pin()
	n, err := f.WriteAt(p, pos)
	w.dirty[file].Store(true)
	return n, err
}

// writeFixed fills a hole of a flat file. All of a sector is in the file from then
// on, the rest of it as zeros.
func (w *writer) writeFixed(u Unit, p []byte, off int64) (int, error) {
	at := func(off int64) Place { return Place{u.Place.File, u.Place.Pos + off - u.Off} }
	n, err := w.writeFile(u.Place.File, p, at(off).Pos)
	end := off + int64(n)
	from, to := max(off-off%sectorSize, u.Off), min((end+sectorSize-1)/sectorSize*sectorSize, u.End())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.patchData(from, to-from, at(from))
	return n, err
}

// zeroUnit makes a unit zeros without a place for them, if it has none: nothing is
// given up then.
func (w *writer) zeroUnit(u Unit) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fresh[u.Off] != nil || !w.lacks(u.Off) {
		return false
	}
	w.freed[u.Off] = Change{Unit: u, Kind: Zero}
	w.patchZero(u.Off, u.Len)
	w.arm()
	return true
}

// lacks reports whether it is certain, under mu, that the topmost image holds
// nothing at off.
func (w *writer) lacks(off int64) bool {
	l, end := w.disk.flat.peek(off)
	return l != nil && !w.owns(w.disk.extent(l, l.find(off), off, end))
}

func (w *writer) patchData(off, n int64, p Place) {
	file := w.chain.files.first[w.layer] + p.File
	w.patch(run{start: off, pos: p.Pos, file: int32(file), layer: int32(w.layer), kind: Data}, off+n)
}

func (w *writer) patchZero(off, n int64) {
	w.patch(run{start: off, file: -1, layer: int32(w.layer), kind: Zero}, off+n)
}

func (w *writer) patch(r run, end int64) {
	if r.start < end {
		w.disk.flat.patch(r, end)
		w.edits.Add(1)
	}
}

func isZero(p []byte) bool {
	for len(p) > len(zeroes) {
		if !bytes.Equal(p[:len(zeroes)], zeroes[:]) {
			return false
		}
		p = p[len(zeroes):]
	}
	return bytes.Equal(p, zeroes[:len(p)])
}

var zeroes [4096]byte
