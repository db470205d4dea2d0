package vdcore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vdfs/vdcore/storage"
)

// mappedImage knows its map and has no bytes.
type mappedImage struct {
	info    Info
	files   []storage.File
	extents []Extent
}

func (m *mappedImage) Info() *Info           { return &m.info }
func (m *mappedImage) Files() []storage.File { return m.files }
func (m *mappedImage) Close() error          { return nil }

func (m *mappedImage) Map(dst []Extent, off, n int64) ([]Extent, error) {
	if off < 0 || n <= 0 || off+n > m.info.Capacity {
		return nil, fmt.Errorf("asked for [%d,+%d) of %d bytes", off, n, m.info.Capacity)
	}
	for _, e := range m.extents {
		if e.Off < off+n && off < e.End() {
			dst = Append(dst, e.Clip(off, off+n))
		}
	}
	return dst, nil
}

// randomMap makes an image of extents of all kinds, some of which continue each other.
func randomMap(r *rand.Rand, capacity int64) *mappedImage {
	m := &mappedImage{info: Info{Capacity: capacity}, files: make([]storage.File, 1+r.IntN(2))}
	for i := range m.files {
		m.files[i] = nameFile{}
	}
	free := r.IntN(4)
	for off := int64(0); off < capacity; {
		e := Extent{Off: off, Len: min(1+r.Int64N(9), capacity-off), Kind: Kind(r.IntN(5))}
		if r.IntN(4) < free {
			e.Kind = Free
		}
		if e.Kind == Data || e.Kind == Packed {
			e.File, e.Pos = r.IntN(len(m.files)), r.Int64N(3)*100
			if k := len(m.extents); k > 0 && r.IntN(2) == 0 && m.extents[k-1].Kind == e.Kind {
				last := m.extents[k-1]
				last.advance(last.Len)
				e.File, e.Pos, e.Skip = last.File, last.Pos, last.Skip
			}
		}
		m.extents = append(m.extents, e)
		off += e.Len
	}
	return m
}

// oneByte resolves a single byte in the contract's words.
func oneByte(c *Chain, layer int, off int64) run {
	for ; layer >= 0; layer-- {
		l := c.layers[layer]
		if off >= l.Info().Capacity {
			return run{start: off, file: -1, layer: -1, kind: Zero}
		}
		for _, e := range l.Image.(*mappedImage).extents {
			if e.Off > off || off >= e.End() || e.Kind == Free {
				continue
			}
			e = e.Clip(off, off+1)
			x := run{start: off, pos: e.Pos, file: -1, layer: int32(layer), skip: uint32(e.Skip), kind: e.Kind}
			if e.Kind == Data || e.Kind == Packed {
				x.file = int32(c.files.first[layer] + e.File)
			}
			return x
		}
	}
	kind := Zero
	if c.layers[0].Link.Verdict == LinkMissing {
		kind = Lost
	}
	return run{start: off, file: -1, layer: -1, kind: kind}
}

// TestWalk compares the walk of the layers with one that asks for every byte alone.
func TestWalk(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 4))
		c := &Chain{}
		for i := range 1 + r.IntN(6) {
			m := randomMap(r, 1+r.Int64N(80))
			c.layers = append(c.layers, &Layer{Index: i, Image: m})
			c.files.add(m.files)
		}
		if r.IntN(2) == 0 {
			c.layers[0].Link.Verdict = LinkMissing
		}
		layer := r.IntN(len(c.layers))
		off := r.Int64N(c.layers[layer].Info().Capacity)
		n := 1 + r.Int64N(c.layers[layer].Info().Capacity-off)
		got, err := c.resolve(layer, off, n)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var want []run
		for at := off; at < off+n; at++ {
			x := oneByte(c, layer, at)
			if k := len(want); k == 0 || !x.continues(want[k-1]) {
				want = append(want, x)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d, [%d,+%d) from layer %d:\n%+v, want\n%+v", seed, off, n, layer, got, want)
		}
	}
}
