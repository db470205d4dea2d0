package vdi

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

const sector = 512

// journal is a file that knows what a power cut may leave of it: what the last
// barrier made durable, and any of the sectors and lengths changed since.
type journal struct {
	storage.File // as running programs see it
	mu           sync.Mutex
	durable      []byte
	pending      []change
	after        func() // called after every change and barrier
}

// change is bytes written inside one sector, or a new length.
type change struct {
	at     int64
	data   []byte
	length int64 // with data nil
}

func (j *journal) WriteAt(p []byte, off int64) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, err := j.File.WriteAt(p, off)
	for done := 0; done < n; {
		part := min(n-done, sector-int(off+int64(done))%sector)
		j.pending = append(j.pending, change{at: off + int64(done), data: bytes.Clone(p[done : done+part])})
		done += part
	}
	j.after()
	return n, err
}

// Punch inside the file is like writing zeros.
func (j *journal) Punch(off, n int64) error {
	st, err := j.Stat()
	if n = min(n, st.Size-off); err != nil || n <= 0 {
		return err
	}
	_, err = j.WriteAt(make([]byte, n), off)
	return err
}

func (j *journal) Truncate(n int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.File.Truncate(n)
	j.pending = append(j.pending, change{length: n})
	j.after()
	return err
}

func (j *journal) DataSync() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.durable, j.pending = j.crash(func() bool { return true }), nil
	j.after()
	return nil
}

func (j *journal) Sync() error { return j.DataSync() }

// crash is what a power cut leaves if survives says which changes made it.
func (j *journal) crash(survives func() bool) []byte {
	b := bytes.Clone(j.durable)
	extend := func(n int64) {
		if n > int64(len(b)) {
			b = append(b, make([]byte, n-int64(len(b)))...)
		}
	}
	for _, c := range j.pending {
		switch {
		case !survives():
		case c.data == nil:
			extend(c.length)
			b = b[:c.length]
		default:
			extend(c.at + int64(len(c.data)))
			copy(b[c.at:], c.data)
		}
	}
	return b
}

// crasher writes to an image at random, and looks at what a power cut would leave
// at every step.
type crasher struct {
	*session
	r    *rand.Rand
	j    *journal
	was  []byte // the byte each block is full of, before the commit under way
	will []byte // and after it
	seen int
}

// look checks some of the images a power cut may leave now: all changes survive,
// none, and a choice.
func (c *crasher) look(images int) {
	for k := range images {
		b := c.j.crash(func() bool { return k == 0 || k > 1 && c.r.IntN(2) == 0 })
		c.seen++
		h, fills := content(c.t, b)
		for n, got := range fills {
			if got != c.was[n] && got != c.will[n] {
				c.t.Fatalf("block %d is full of %d, was %d and was to be %d; map %s", n, got, c.was[n], c.will[n], entriesOf(h, b))
			}
		}
		for n := range uint64(h.Blocks) {
			if e := binary.LittleEndian.Uint32(b[h.OffMap+4*n:]); e < entryZero && e >= h.Allocated {
				c.t.Fatalf("entry %d leads to slot %d, the header counts %d", n, e, h.Allocated)
			}
		}
	}
}

// change gives up blocks that are there and writes those that are not.
func (c *crasher) change() {
	var list []vdcore.Change
	for n := range c.was {
		m, err := c.w.Map(nil, c.w.Unit(int64(n)*testBlock).Off, 1)
		c.must(err)
		switch {
		case c.r.IntN(2) == 0:
		case m[0].Kind == vdcore.Data:
			c.will[n] = 0
			list = append(list, c.drop(int64(n), []vdcore.Kind{vdcore.Zero, vdcore.Free}[c.r.IntN(2)]))
		case c.r.IntN(8) == 0: // reserved, written, and given up
			x := c.put(int64(n), 99)
			c.must(storage.Zero(c.w.file, x.Place.Pos, x.Unit.Len))
			c.w.Release(x.Place)
		default:
			c.will[n] = byte(1 + c.r.IntN(90))
			list = append(list, c.put(int64(n), c.will[n]))
		}
	}
	c.commit(list...)
	c.was = bytes.Clone(c.will)
}

// live runs one session, and returns the image the next one starts from.
func (c *crasher) live(stored []byte) []byte {
	m := vdtest.NewMem()
	m.Put("/a.vdi", bytes.Clone(stored))
	file, err := m.Open("/a.vdi", storage.ReadWrite)
	c.must(err)
	c.j = &journal{File: file, durable: bytes.Clone(stored), after: func() {}}
	c.session = &session{c.t, m, openFile(c.t, c.j)}
	c.j.after = func() {
		if c.r.IntN(8) == 0 || len(c.j.pending) == 0 {
			c.look(4)
		}
	}
	c.must(c.w.Begin(true))
	for range 1 + c.r.IntN(4) {
		c.change()
	}
	switch c.r.IntN(3) {
	case 0: // killed in the middle, and the power cut too
		if _, room := c.w.pick(); room {
			c.must(c.w.Prepare([]vdcore.Change{c.put(int64(c.r.IntN(len(c.was))), 99)}))
		}
		return c.j.crash(func() bool { return c.r.IntN(2) == 0 })
	case 1:
		return c.j.crash(func() bool { return true })
	}
	c.must(c.w.Finish())
	return m.Bytes("/a.vdi")
}

// TestCrash: whatever a power cut leaves, every block is as before the commit under
// way or as after it, and the header counts all the slots entries lead to.
func TestCrash(t *testing.T) {
	v := six(3, f, z, 0, f, f)
	extra := six(3, f, z, 0, f, f)
	extra.BlockExtra = 512
	for name, stored := range map[string][]byte{"1.1": v.Bytes(), "extra": extra.Bytes(), "0.2": version0Of(v)} {
		t.Run(name, func(t *testing.T) {
			c := &crasher{session: &session{t: t}, r: rand.New(rand.NewPCG(5, 6))}
			_, c.was = content(t, stored)
			c.will = bytes.Clone(c.was)
			for range 12 {
				stored = c.live(stored)
			}
			t.Logf("%d images looked at", c.seen)
		})
	}
}

// TestKilled: a killed process left entries the disk has not yet. Begin does not
// cut off the slots the entries on disk still lead to.
func TestKilled(t *testing.T) {
	stored := six(f, 0, f, 1, f, f).Bytes()
	c := &crasher{session: &session{t: t}, r: rand.New(rand.NewPCG(7, 8)), was: []byte{0, 1, 0, 2, 0, 0}, will: []byte{0, 1, 0, 0, 0, 0}}
	m := vdtest.NewMem()
	seen := bytes.Clone(stored)
	copy(seen[512+4*3:], "\xFE\xFF\xFF\xFF")
	m.Put("/a.vdi", seen)
	file, err := m.Open("/a.vdi", storage.ReadWrite)
	c.must(err)
	c.j = &journal{File: file, durable: stored, after: func() { c.look(30) }}
	c.j.pending = []change{{at: 512 + 4*3, data: []byte("\xFE\xFF\xFF\xFF")}}
	c.session = &session{t, m, openFile(t, c.j)}
	c.must(c.w.Begin(true))
	c.check("f 0 f z f f", 0, 1, 0, 0, 0, 0)
	c.dense(1)
}
