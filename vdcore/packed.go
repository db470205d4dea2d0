package vdcore

import (
	"fmt"
	"runtime"
	"sync"
)

const (
	unitBudget  = 32 << 20 // bytes of unpacked units kept for one chain
	aheadWindow = 2 << 20  // bytes unpacked ahead of a sequential reader
)

// unitCache keeps unpacked units. Each is unpacked by one goroutine however many
// ask for it, and those ahead of a sequential reader by as many as there are
// processors.
type unitCache struct {
	mu    sync.Mutex // guards what follows, and every unit.data until ready
	units map[unitKey]*unit
	order []unitKey // oldest first
	size  int64

	slots chan struct{} // one for each unit being unpacked ahead
	busy  sync.WaitGroup
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
	ready chan struct{} // closed when data and err are set
	data  []byte
	err   error
}

func newUnitCache() *unitCache {
	return &unitCache{units: map[unitKey]*unit{}, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

func (c *unitCache) close() { c.busy.Wait() }

// read fills p from the packed extent f of d.
func (c *unitCache) read(d *Disk, p []byte, f Flat) error {
	c.ahead(d, f)
	data, err := c.get(d, f)
	if err != nil {
		return err
	}
	if int64(len(data)) < f.Skip+f.Len {
		return fmt.Errorf("%s: record at %d unpacks to %d bytes, %d needed: %w", f.Path, f.Pos, len(data), f.Skip+f.Len, ErrCorrupt)
	}
	copy(p, data[f.Skip:])
	return nil
}

// get returns the unit f lies in, unpacking it if nobody has.
func (c *unitCache) get(d *Disk, f Flat) ([]byte, error) {
	key := unitKey{f.File.(*pinned), f.Pos, f.Off - f.Skip}
	c.mu.Lock()
	u, ok := c.units[key]
	if !ok {
		u = &unit{ready: make(chan struct{})}
		c.units[key] = u
	}
	c.mu.Unlock()
	if ok {
		<-u.ready
		return u.data, u.err
	}
	u.data, u.err = d.unpack(f)
	close(u.ready)
	c.keep(key, u)
	return u.data, u.err
}

// keep enters a finished unit into the budget; a failed one is forgotten, so that
// the next reader tries again.
func (c *unitCache) keep(key unitKey, u *unit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.err != nil {
		delete(c.units, key)
		return
	}
	c.order = append(c.order, key)
	c.size += int64(len(u.data))
	for c.size > unitBudget && len(c.order) > 1 {
		old := c.order[0]
		c.order = c.order[1:]
		c.size -= int64(len(c.units[old].data))
		delete(c.units, old)
	}
}

// unpack calls the layer's decoder.
func (d *Disk) unpack(f Flat) ([]byte, error) {
	l := d.chain.layers[f.Layer]
	dec, ok := l.Image.(Decoder)
	if !ok {
		return nil, fmt.Errorf("%s: compressed data in a %s image: %w", l.Path, l.Info().Format, ErrUnsupported)
	}
	f.File.(*pinned).pin()
	data, err := dec.Decode(f.Extent)
	if err != nil {
		return nil, fmt.Errorf("%s: guest bytes %d to %d: %w", l.Path, f.Off, f.End(), err)
	}
	return data, nil
}

// ahead starts unpacking what a sequential reader wants next. A reader is
// sequential when it asks for what lies inside or right behind the last window.
func (c *unitCache) ahead(d *Disk, f Flat) {
	from := d.aheadEnd.Load()
	near := f.End() > from-aheadWindow && f.Off <= from
	switch {
	case !near:
		d.aheadEnd.Store(f.End()) // remember where; the next read in line starts it
		return
	case from-f.End() > aheadWindow/2:
		return
	}
	to := min(f.End()+aheadWindow, d.capacity)
	if to <= from || !d.aheadEnd.CompareAndSwap(from, to) {
		return
	}
	d.Each(from, to-from, func(next Flat) bool { // an error shows when it is read
		if next.Kind != Packed {
			return true
		}
		select {
		case c.slots <- struct{}{}:
		default:
			d.aheadEnd.CompareAndSwap(to, next.Off) // all busy: go on from here later
			return false
		}
		c.busy.Add(1)
		go func() {
			defer func() { <-c.slots; c.busy.Done() }()
			c.get(d, next)
		}()
		return true
	})
}
