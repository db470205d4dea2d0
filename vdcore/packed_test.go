package vdcore

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"vdfs/vdcore/storage"
)

// packedImage is an image of compressed units that counts how often each is
// unpacked; a unit's bytes are its number.
type packedImage struct {
	info    Info
	reused  atomic.Int32
	decodes []atomic.Int32
	bad     atomic.Int64 // number of a unit that fails, or -1
}

const packedUnit = 64 << 10

type nameFile struct{ storage.File }

func (nameFile) Path() string              { return "/packed" }
func (nameFile) Pin() (int, func(), error) { return -1, nil, storage.ErrNoDescriptor }

func (p *packedImage) Info() *Info           { return &p.info }
func (p *packedImage) Files() []storage.File { return []storage.File{nameFile{}} }
func (p *packedImage) Close() error          { return nil }

func (p *packedImage) Map(dst []Extent, off, n int64) ([]Extent, error) {
	for end := off + n; off < end; {
		u := off / packedUnit
		stop := min(end, (u+1)*packedUnit)
		dst = Append(dst, Extent{Off: off, Len: stop - off, Kind: Packed, Pos: u * 1000, Skip: off - u*packedUnit})
		off = stop
	}
	return dst, nil
}

func (p *packedImage) Decode(e Extent, memory []byte) ([]byte, error) {
	u := e.Pos / 1000
	p.decodes[u].Add(1)
	if u == p.bad.Load() {
		return nil, fmt.Errorf("unit %d: %w", u, ErrCorrupt)
	}
	if cap(memory) < packedUnit {
		memory = make([]byte, packedUnit)
	} else {
		p.reused.Add(1)
	}
	memory = memory[:packedUnit]
	for i := range memory {
		memory[i] = byte(u)
	}
	return memory, nil
}

func newPackedChain(units int64) (*Chain, *packedImage) {
	img := &packedImage{info: Info{Capacity: units * packedUnit, BlockSize: packedUnit}, decodes: make([]atomic.Int32, units)}
	img.bad.Store(-1)
	c := &Chain{disks: map[int]*Disk{}, runs: &runBudget{}, units: newUnitCache()}
	c.layers = []*Layer{{Path: "/packed", Image: img, Link: Link{Verdict: LinkBase}}}
	c.files.add(img.Files())
	return c, img
}

// TestPackedMemory: the memory of units that were dropped is used again, and not while
// somebody reads from it.
func TestPackedMemory(t *testing.T) {
	units := int64(2 * unitBudget / packedUnit)
	c, img := newPackedChain(units)
	d := c.Top()
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 4))
			p := make([]byte, 3*packedUnit)
			for range units / 2 {
				u := r.Int64N(units - 2)
				if _, err := d.ReadAt(p, u*packedUnit); err != nil {
					t.Error(err)
					return
				}
				for k := range int64(3) {
					if part := p[k*packedUnit:][:packedUnit]; part[0] != byte(u+k) || part[packedUnit/2] != byte(u+k) || part[packedUnit-1] != byte(u+k) {
						t.Errorf("unit %d reads %d, %d, %d", u+k, part[0], part[packedUnit/2], part[packedUnit-1])
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if img.reused.Load() == 0 {
		t.Error("no memory was used again")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestPackedOnce: however many readers, at any offsets, a unit in the cache is
// unpacked once, and ahead of a sequential reader.
func TestPackedOnce(t *testing.T) {
	c, img := newPackedChain(256)
	d := c.Top()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := io.ReadAll(io.NewSectionReader(d, 100, d.Capacity()))
			if err != nil {
				t.Error(err)
			}
			for i, b := range got {
				if b != byte((i+100)/packedUnit) {
					t.Errorf("byte %d is %d", i, b)
					return
				}
			}
		})
	}
	wg.Wait()
	c.units.close()
	for u := range img.decodes {
		if n := img.decodes[u].Load(); n != 1 {
			t.Errorf("unit %d unpacked %d times", u, n)
		}
	}
}

// TestPackedBudget: a disk larger than the cache stays within it.
func TestPackedBudget(t *testing.T) {
	c, _ := newPackedChain(2 * unitBudget / packedUnit)
	if _, err := io.Copy(io.Discard, io.NewSectionReader(c.Top(), 0, c.Top().Capacity())); err != nil {
		t.Fatal(err)
	}
	c.units.close()
	if c.units.size > unitBudget {
		t.Errorf("%d bytes kept, %d allowed", c.units.size, unitBudget)
	}
}

// TestPackedFailure: a unit that fails is an error each time, until it does not.
func TestPackedFailure(t *testing.T) {
	c, img := newPackedChain(8)
	img.bad.Store(3)
	p := make([]byte, 4096)
	for range 2 {
		if _, err := c.Top().ReadAt(p, 3*packedUnit); err == nil {
			t.Fatal("a damaged unit was read")
		}
	}
	img.bad.Store(-1)
	if _, err := c.Top().ReadAt(p, 3*packedUnit); err != nil || p[0] != 3 {
		t.Fatalf("%d, %v", p[0], err)
	}
	c.units.close()
}

// TestPackedShared: two places of the disk that name one record are two units: the
// decoder is asked for each, and can say which of them the record does not belong to.
func TestPackedShared(t *testing.T) {
	c, img := newPackedChain(8)
	f := Flat{Extent: Extent{Off: 2 * packedUnit, Len: packedUnit, Kind: Packed, Pos: 1000}, File: c.files.files[0], Path: "/packed"}
	for range 2 {
		u := c.units.get(c.Top(), f)
		if u.err != nil {
			t.Fatal(u.err)
		}
		c.units.release(u)
		f.Off += packedUnit
	}
	if n := img.decodes[1].Load(); n != 2 {
		t.Errorf("unpacked %d times", n)
	}
}

// TestHugeCapacity: the largest disk has a map of a bounded size.
func TestHugeCapacity(t *testing.T) {
	for _, capacity := range []int64{1, MaxCapacity - 1, MaxCapacity} {
		m := newFlatMap(capacity, 512, &runBudget{}, func(off, n int64) ([]run, error) { return []run{{start: off, kind: Zero}}, nil })
		if len(m.top) == 0 || len(m.top) > 2*maxLeaves {
			t.Errorf("%d leaves for %d bytes", len(m.top), capacity)
		}
		if _, end, err := m.at(capacity - 1); err != nil || end != capacity {
			t.Errorf("the last leaf of %d bytes ends at %d, %v", capacity, end, err)
		}
	}
}

// TestEviction: leaves over the budget are dropped and made again.
func TestEviction(t *testing.T) {
	var fills int
	budget := &runBudget{}
	m := newFlatMap(64<<20, 0, budget, func(off, n int64) ([]run, error) {
		fills++
		runs := make([]run, maxRuns/8)
		for i := range runs {
			runs[i] = run{start: off + int64(i), kind: Zero}
		}
		return runs, nil
	})
	for range 2 {
		for off := int64(0); off < m.capacity; off += 1 << 20 {
			l, end, err := m.at(off)
			if err != nil || end != off+1<<20 || l.find(off) != 0 {
				t.Fatalf("leaf at %d ends at %d: %v", off, end, err)
			}
			if used := budget.used.Load(); used > maxRuns+maxRuns/8 {
				t.Fatalf("%d runs kept, %d allowed", used, maxRuns)
			}
		}
	}
	if fills <= 64 {
		t.Errorf("nothing was evicted: %d fills", fills)
	}
	// Another disk of the chain gets its share: what it reads stays for a while.
	other, before := newFlatMap(4<<20, 0, budget, m.fill), fills
	for range 10 {
		for off := int64(0); off < other.capacity; off += 1 << 20 {
			if _, _, err := other.at(off); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := fills - before; n > 12 {
		t.Errorf("a second map of 4 leaves was filled %d times", n)
	}
}
