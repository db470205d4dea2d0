package vdi

import (
	"math/rand/v2"
	"slices"
	"testing"

	"vdfs/vdcore/vdtest"
)

// TestKnown: the runs that are kept of a map say what the map says, torn slots and
// those past the end included; where there are too many, it is read.
func TestKnown(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, blocks := range []int{1, 40, 8 * maxKnown} {
		for range 20 {
			v := small()
			v.Capacity, v.Map = int64(blocks)*v.BlockSize, nil
			for len(v.Map) < blocks {
				entry, step := []uint32{vdtest.VDIFree, vdtest.VDIZero, uint32(r.IntN(4))}[r.IntN(3)], uint32(0)
				if entry < 4 {
					step = 1
				}
				for range 1 + r.IntN(3) {
					v.Map = append(v.Map, entry)
					entry += step
				}
			}
			v.Map = v.Map[:blocks]
			b := v.Bytes()
			opened, err := openBytes(b[:len(b)-r.IntN(1000)])
			if err != nil {
				t.Fatal(err)
			}
			img := opened.(*image)
			if img.knowsAll != (blocks < maxKnown) {
				t.Fatalf("%d blocks: %d runs, all %v", blocks, len(img.known), img.knowsAll)
			}
			off := r.Int64N(v.Capacity)
			n := 1 + r.Int64N(v.Capacity-off)
			got, err := img.Map(nil, off, n)
			if err != nil {
				t.Fatal(err)
			}
			img.knowsAll = false
			if want, err := img.Map(nil, off, n); err != nil || !slices.Equal(got, want) {
				t.Fatalf("%d bytes at %d of %v: %v, want %v, %v", n, off, v.Map, got, want, err)
			}
		}
	}
}
