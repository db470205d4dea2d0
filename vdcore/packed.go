package vdcore

import (
	"fmt"
	"runtime"
	"sync"
)

const (
	unitBudget = 32 << 20 // bytes of unpacked units kept for one chain
	// Bytes unpacked ahead of a sequential reader: at first, and when it has read as
	// many. The kernel reads ahead itself, and the window has to reach beyond that.
	aheadFirst  = 1 << 20
	aheadWindow = 8 << 20
	// aheadLimit is how many bytes may wait to be unpacked ahead, of all readers
	// together: more, and they would push each other's out before they are read.
	aheadLimit = unitBudget / 2
	// spareUnits is how much memory of dropped units is held for new ones. A unit
	// comes for each that goes, so this is seldom more than one.
	spareUnits = 8
)

// unitCache keeps unpacked units. Each is unpacked by one goroutine however many
// ask for it, and those ahead of a sequential reader by as many as there are
// processors. The memory of units that are dropped is used again: memory not
// touched lately costs more than unpacking into it.
type unitCache struct {
	mu    sync.Mutex // guards what follows, and every unit but for data and err
	units map[unitKey]*unit
	order []*unit // those that are ready, oldest first
	size  int64   // of order
	spare [][]byte

	queue   []aheadUnit // to be unpacked ahead
	waiting int64       // bytes of queue
	workers int         // goroutines that see to it
	busy    sync.WaitGroup
}

// aheadUnit is a unit to be unpacked before it is asked for.
type aheadUnit struct {
	disk *Disk
	Flat
}

// unitKey names a unit by where it lies and by where it belongs: a record carries
// its own guest position, so one that two table entries share is right for one of
// them at most.
type unitKey struct {
	file  *pinned
	pos   int64
	guest int64
}

type unit struct {
	key     unitKey
	users   int           // who waits for it or copies from it
	dropped bool          // from the cache; its memory is free when nobody uses it
	ready   chan struct{} // closed when data and err are set
	data    []byte
	err     error
}

func newUnitCache() *unitCache { return &unitCache{units: map[unitKey]*unit{}} }

// close waits for what is being unpacked ahead; the rest is not wanted any more.
func (c *unitCache) close() {
	c.mu.Lock()
	c.queue = nil
	c.mu.Unlock()
	c.busy.Wait()
}

// read fills p from the packed extent f of d.
func (c *unitCache) read(d *Disk, p []byte, f Flat) error {
	u := c.get(d, f)
	defer c.release(u)
	c.ahead(d, f) // behind get: the workers would take the processors from who waits
	if u.err != nil {
		return u.err
	}
	if int64(len(u.data)) < f.Skip+f.Len {
		return fmt.Errorf("%s: record at %d unpacks to %d bytes, %d needed: %w", f.Path, f.Pos, len(u.data), f.Skip+f.Len, ErrCorrupt)
	}
	copy(p, u.data[f.Skip:])
	return nil
}

// get returns the unit f lies in, unpacking it if nobody has. It stays as it is
// until released.
func (c *unitCache) get(d *Disk, f Flat) *unit {
	key := unitKey{f.File.(*pinned), f.Pos, f.Off - f.Skip}
	c.mu.Lock()
	u, ok := c.units[key]
	if ok {
		u.users++
		c.mu.Unlock()
		<-u.ready
		return u
	}
	u = &unit{key: key, users: 1, ready: make(chan struct{})}
	c.units[key] = u
	memory := c.takeSpare()
	c.mu.Unlock()
	u.data, u.err = d.unpack(f, memory)
	close(u.ready)
	c.keep(u)
	return u
}

// takeSpare returns memory of a dropped unit, or nil.
func (c *unitCache) takeSpare() []byte {
	last := len(c.spare) - 1
	if last < 0 {
		return nil
	}
	memory := c.spare[last]
	c.spare = c.spare[:last]
	return memory
}

// keep enters a finished unit into the budget; a failed one is forgotten, so that
// the next reader tries again.
func (c *unitCache) keep(u *unit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.err != nil {
		delete(c.units, u.key)
		return
	}
	c.order = append(c.order, u)
	c.size += int64(cap(u.data))
	for c.size > unitBudget && len(c.order) > 1 {
		old := c.order[0]
		c.order = c.order[1:]
		c.size -= int64(cap(old.data))
		delete(c.units, old.key)
		old.dropped = true
		c.reuse(old)
	}
}

func (c *unitCache) release(u *unit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u.users--
	c.reuse(u)
}

// reuse takes the memory of a unit that was dropped and is not used any more.
func (c *unitCache) reuse(u *unit) {
	if u.dropped && u.users == 0 && len(c.spare) < spareUnits {
		c.spare = append(c.spare, u.data[:0])
	}
}

// unpack calls the layer's decoder.
func (d *Disk) unpack(f Flat, memory []byte) ([]byte, error) {
	l := d.chain.layers[f.Layer]
	dec, ok := l.Image.(Decoder)
	if !ok {
		return nil, fmt.Errorf("%s: compressed data in a %s image: %w", l.Path, l.Info().Format, ErrUnsupported)
	}
	f.File.(*pinned).pin()
	data, err := dec.Decode(f.Extent, memory)
	if err != nil {
		return nil, fmt.Errorf("%s: guest bytes %d to %d: %w", l.Path, f.Off, f.End(), err)
	}
	return data, nil
}

// ahead has unpacked what a sequential reader wants next. A reader is sequential
// when it asks for what lies inside or right behind the last window; the first read
// of all is not, wherever it begins: who looks for a partition table reads no more.
// The window grows with what was read, and goes on when half of it is read, so that
// there is always something to unpack while the reader hands on what it got.
func (c *unitCache) ahead(d *Disk, f Flat) {
	from := d.aheadEnd.Load()
	near := from > 0 && f.End() > from-aheadWindow && f.Off <= from
	window := min(max(f.End()-d.aheadFrom.Load(), aheadFirst), aheadWindow)
	switch {
	case !near: // remember where; the next read in line starts it
		d.aheadFrom.Store(f.Off)
		d.aheadEnd.Store(f.End())
		return
	case from-f.End() > window/2:
		return
	}
	to := min(f.End()+window, d.capacity)
	if to <= from || !d.aheadEnd.CompareAndSwap(from, to) {
		return
	}
	from = max(from, f.End()) // f itself is unpacked by who asks for it
	var list []aheadUnit
	d.Each(from, to-from, func(next Flat) bool { // an error shows when it is read
		if next.Kind == Packed {
			list = append(list, aheadUnit{d, next})
		}
		return true
	})
	c.enqueue(list)
}

// enqueue leaves out what is too much; it is unpacked when it is read.
func (c *unitCache) enqueue(list []aheadUnit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, next := range list {
		if c.waiting > aheadLimit {
			break
		}
		c.queue = append(c.queue, next)
		c.waiting += next.Len
	}
	for c.workers < min(runtime.NumCPU(), len(c.queue)) { // GOMAXPROCS may count more
		c.workers++
		c.busy.Go(c.work)
	}
}

// work unpacks what is in the queue until it is empty.
func (c *unitCache) work() {
	for {
		next, ok := c.dequeue()
		if !ok {
			return
		}
		c.release(c.get(next.disk, next.Flat))
	}
}

// dequeue returns what is first in the queue; without it, the worker is gone.
func (c *unitCache) dequeue() (next aheadUnit, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.queue, c.waiting = nil, 0
		c.workers--
		return next, false
	}
	next = c.queue[0]
	c.queue = c.queue[1:]
	c.waiting -= next.Len
	return next, true
}
