package vmdk

import (
	"encoding/binary"
	"sort"

	"vdfs/vdcore"
)

// maxKnown bounds the runs that are kept of one extent: 24 bytes each, and there may
// be hundreds of layers. More would take a disk that was written in little pieces.
const maxKnown = 1024

// known is a run of entries that was found when the tables were checked. An image that
// holds few, as most layers of a long chain do, is mapped by these, and its tables
// need not be read a second time. Those of an image that is written change.
type known struct {
	first, n int64  // grains
	entry    uint64 // of the first one
}

// mapKnown is mapTable for a table whose runs are known.
func (g *grains) mapKnown(dst []vdcore.Extent, lo, hi int64) []vdcore.Extent {
	i := sort.Search(len(g.known), func(i int) bool { return (g.known[i].first+g.known[i].n)*g.grain > lo })
	for ; i < len(g.known) && g.known[i].first*g.grain < hi; i++ {
		k := g.known[i]
		start := k.first * g.grain
		if start > lo {
			dst = g.add(dst, vdcore.Extent{Off: lo, Len: start - lo})
			lo = start
		}
		end := min(start+k.n*g.grain, hi)
		dst = g.mapRun(dst, k.entry, start, lo, end)
		lo = end
	}
	return g.add(dst, vdcore.Extent{Off: lo, Len: hi - lo})
}

// zeroBytes counts the bytes of zeros at the beginning.
func zeroBytes(b []byte) (n int) {
	le := binary.LittleEndian
	for ; len(b)-n >= 32; n += 32 {
		if w := b[n : n+32]; le.Uint64(w)|le.Uint64(w[8:])|le.Uint64(w[16:])|le.Uint64(w[24:]) != 0 {
			break
		}
	}
	for n < len(b) && b[n] == 0 {
		n++
	}
	return n
}
