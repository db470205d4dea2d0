package vdi

import (
	"sort"

	"vdfs/vdcore"
)

// maxKnown bounds the runs that are kept of one image: 24 bytes each, and there may be
// hundreds of layers. More would take a disk that was written in little pieces.
const maxKnown = 1024

// known is a run of blocks that was found when the map was checked: zeros, or slots that
// follow each other. An image that holds few, as most layers of a long chain do, is
// mapped by these, and its map need not be read a second time. That of an image that is
// written changes.
type known struct {
	block, n int64
	entry    uint32 // of the first one
}

// at is the entry of a block of the run.
func (k known) at(block int64) uint32 {
	if k.entry == entryZero {
		return entryZero
	}
	return k.entry + uint32(block-k.block)
}

// remember keeps count blocks from block on, unless there are too many of them, or they
// are those of a hole in the map, which all have one slot.
func (s *scanner) remember(entry uint32, block, count int64) {
	if s.keep = s.keep && count == 1; !s.keep {
		return
	}
	if k := len(s.runs) - 1; k >= 0 {
		if last := &s.runs[k]; last.block+last.n == block && last.at(block) == entry {
			last.n++
			return
		}
	}
	if s.keep = len(s.runs) < maxKnown; s.keep {
		s.runs = append(s.runs, known{block, 1, entry})
	}
}

// mapKnown is Map where all that the map holds is known.
func (i *image) mapKnown(dst []vdcore.Extent, off, end int64) []vdcore.Extent {
	size := int64(i.header.BlockSize)
	k := sort.Search(len(i.known), func(k int) bool { return (i.known[k].block+i.known[k].n)*size > off })
	for ; k < len(i.known) && i.known[k].block*size < end; k++ {
		run := i.known[k]
		if start := run.block * size; start > off {
			dst = vdcore.Append(dst, vdcore.Extent{Off: off, Len: start - off})
			off = start
		}
		for stop := min((run.block+run.n)*size, end); off < stop; {
			block := off / size
			next := min((block+1)*size, stop)
			dst = i.append(dst, run.at(block), block, off, next)
			off = next
		}
	}
	if off < end {
		dst = vdcore.Append(dst, vdcore.Extent{Off: off, Len: end - off})
	}
	return dst
}
