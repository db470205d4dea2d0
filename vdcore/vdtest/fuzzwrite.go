package vdtest

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// fuzzCapacity bounds the disks FuzzWrite holds in memory.
const fuzzCapacity = 8 << 20

// FuzzWrite writes to an image of any bytes: if the backend takes it for writing at
// all, it must show exactly what was read and written before, also opened again.
// That holds only if no two entries, and no entry and no table, share a place.
func FuzzWrite(t *testing.T, backend string, files map[string][]byte, open string, seed uint64) {
	m := NewMem()
	for p, b := range files {
		m.Put(p, bytes.Clone(b))
	}
	flat, ok := fuzzRead(t, m, backend, open)
	if !ok {
		return
	}
	c, err := vdcore.OpenFS(m, open, vdcore.Options{Format: backend, Write: true})
	if err != nil {
		return // said why
	}
	r := rand.New(rand.NewPCG(seed, 31))
	d := c.Top()
	for range 12 {
		off := r.Int64N(d.Capacity())
		n := min(1+r.Int64N(192<<10), d.Capacity()-off)
		p := make([]byte, n)
		switch r.IntN(4) {
		case 0:
			err = d.Discard(off, n)
		case 1:
			err = d.Sync()
			n = 0
		default:
			for i := range p {
				p[i] = byte(seed) | 1
			}
			_, err = d.WriteAt(p, off)
		}
		if err != nil {
			c.Close()
			t.Skip(err) // no room in a table, say; content is another test's matter
		}
		copy(flat[off:], p[:n])
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again, ok := fuzzRead(t, m, backend, open)
	if !ok || !bytes.Equal(again, flat) {
		t.Fatal("the image shows something else than was written")
	}
}

// fuzzRead returns the content of an image that opens and can be read.
func fuzzRead(t *testing.T, m *Mem, backend, path string) ([]byte, bool) {
	b, err := vdcore.Lookup(backend)
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.Open(path, storage.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	img, err := b.Open(vdcore.OpenArgs{File: f, Path: path, FS: m.Below(filepath.Dir(path)), Tables: vdcore.NewTables()})
	if err != nil {
		return nil, false
	}
	defer img.Close()
	if n := img.Info().Capacity; n > fuzzCapacity || img.Info().Parent != nil {
		return nil, false
	}
	flat := make([]byte, img.Info().Capacity)
	err = Stack{img}.ReadAt(flat, 0)
	return flat, err == nil
}
