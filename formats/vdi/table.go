package vdi

import (
	"encoding/binary"
	"fmt"
	"sync"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	entryFree = 0xFFFFFFFF
	entryZero = 0xFFFFFFFE

	chunkEntries = 8192 // map entries handled at a time
)

// Map translates map entries: those that are known, or else read through the chain's
// table cache.
func (i *image) Map(dst []vdcore.Extent, off, n int64) ([]vdcore.Extent, error) {
	if i.knowsAll {
		return i.mapKnown(dst, off, off+n), nil
	}
	block := int64(i.header.BlockSize)
	end := off + n
	buf := make([]byte, 4*min(chunkEntries, (end-1)/block-off/block+1))
	for off < end {
		first := off / block
		count := min(int64(len(buf)/4), (end-1)/block-first+1)
		if err := i.tables.ReadAt(i.file, buf[:4*count], int64(i.header.OffMap)+4*first); err != nil {
			return nil, err
		}
		for k := int64(0); k < count; {
			entry, alike := alike(buf[4*k : 4*count])
			stop := min(end, (first+k+alike)*block)
			dst = i.append(dst, entry, first+k, off, stop)
			off, k = stop, k+alike
		}
	}
	return dst, nil
}

// alike returns the first of the entries, and how many there are of it in a row if it
// names no slot: the layers of a long chain are mostly free.
func alike(entries []byte) (entry uint32, n int64) {
	entry, n = binary.LittleEndian.Uint32(entries), 1
	if entry < entryZero {
		return entry, 1
	}
	for entries = entries[4:]; len(entries) >= 4 && binary.LittleEndian.Uint32(entries) == entry; entries = entries[4:] {
		n++
	}
	return entry, n
}

// append adds what an entry says of the part [off, end) of its block, or of several
// in a row if it names no slot.
func (i *image) append(dst []vdcore.Extent, entry uint32, block, off, end int64) []vdcore.Extent {
	e := vdcore.Extent{Off: off, Len: end - off}
	switch entry {
	case entryFree:
	case entryZero:
		e.Kind = vdcore.Zero
	default:
		e.Kind = vdcore.Data
		e.Pos = i.place(entry) + off - block*int64(i.header.BlockSize)
		inside := min(max(i.size-e.Pos, 0), e.Len)
		if inside < e.Len { // a torn slot: what lies in the file is good
			dst = vdcore.Append(dst, vdcore.Extent{Off: off, Len: inside, Kind: vdcore.Data, Pos: e.Pos})
			e = vdcore.Extent{Off: off + inside, Len: e.Len - inside, Kind: vdcore.Lost}
		}
	}
	return vdcore.Append(dst, e)
}

// place is where the data of a slot begin. It cannot overflow: 2^32 slots of
// 2^28 bytes.
func (i *image) place(slot uint32) int64 {
	return int64(i.header.OffData) + int64(slot)*i.header.slotSize() + int64(i.header.BlockExtra)
}

// scan reads the whole map once: it counts what is allocated and finds entries
// that lead past the file and slots used twice.
func (i *image) scan() (*scanner, error) {
	s := newScanner(i)
	if err := i.held(func(entry uint32, block, count int64) error {
		if entry < entryZero {
			s.slot(entry, block, count)
		}
		s.remember(entry, block, count)
		return nil
	}); err != nil {
		return nil, err
	}
	s.report()
	return s, nil
}

// entries calls fn for the entries that name a slot, as held does.
func (i *image) entries(fn func(slot uint32, block, count int64) error) error {
	return i.held(func(entry uint32, block, count int64) error {
		if entry == entryZero {
			return nil
		}
		return fn(entry, block, count)
	})
}

// held calls fn for the entries of blocks that are not free, in order, straight from the
// file: count blocks from block on, more than one only for a hole of the map, which is
// all slot 0 and costs nothing however long it is.
func (i *image) held(fn func(entry uint32, block, count int64) error) error {
	used := i.header.need()
	memory := mapBuffers.Get().(*[4 * chunkEntries]byte)
	defer mapBuffers.Put(memory)
	buf := memory[:]
	for first := int64(0); first < used; {
		at := int64(i.header.OffMap) + 4*first
		data, err := i.file.NextData(at)
		if err != nil {
			return err
		}
		if holes := min((data-at)/4, used-first); holes > 0 {
			if err := fn(0, first, holes); err != nil {
				return err
			}
			first += holes
			continue
		}
		count := min(chunkEntries, used-first)
		if err := storage.ReadFull(i.file, buf[:4*count], at); err != nil {
			return fmt.Errorf("read the block map: %w", err)
		}
		for k := range count {
			if entry := binary.LittleEndian.Uint32(buf[4*k:]); entry != entryFree {
				if err := fn(entry, first+k, 1); err != nil {
					return err
				}
			}
		}
		first += count
	}
	return nil
}

// mapBuffers are used again: a long chain reads many maps when it is opened.
var mapBuffers = sync.Pool{New: func() any { return new([4 * chunkEntries]byte) }}

// maxSlots bounds the memory of the search for shared slots (32 MiB); a dynamic
// image of 256 TiB stays within it.
const maxSlots = 1 << 28

// slotsInFile is how many slots begin inside the file.
func (i *image) slotsInFile() int64 {
	return max(0, (i.info.FileSize-int64(i.header.OffData)+i.header.slotSize()-1)/i.header.slotSize())
}

type scanner struct {
	image  *image
	slots  bitmap
	end    int64 // first slot behind all that are used
	shared int64 // entries whose slot another one uses
	first  int64 // block of the first of them

	runs []known
	keep bool // runs are all that was found so far

	torn, outside func() error // what is said of slots that end, or begin, past the file
}

func newScanner(i *image) *scanner {
	return &scanner{
		image: i,
		slots: newBitmap(min(i.slotsInFile(), maxSlots)),
		keep:  true,
		torn: sync.OnceValue(func() error {
			return vdcore.Flaw(codeTorn, fmt.Errorf("the file is truncated: a block of the map reaches past its end at %d: %w", i.info.FileSize, vdcore.ErrCorrupt))
		}),
		outside: sync.OnceValue(func() error {
			return vdcore.Flaw(codeOutside, fmt.Errorf("a block map entry leads past the end of the file at %d: %w", i.info.FileSize, vdcore.ErrCorrupt))
		}),
	}
}

// slot takes note of count blocks from block on that name the same slot.
func (s *scanner) slot(entry uint32, block, count int64) {
	i := s.image
	size := int64(i.header.BlockSize)
	off, end := block*size, min((block+count)*size, i.info.Capacity)
	held := min(max(i.info.FileSize-i.place(entry), 0), size) // of each block
	switch {
	case held == 0:
		i.info.AddDamage(off, end-off, s.outside())
	case held < size:
		for o := off; o < end && (count == 1 || len(i.info.Damage) < vdcore.MaxDamage); o += size {
			if need := min(size, end-o); held < need {
				i.info.AddDamage(o+held, need-held, s.torn())
			}
		}
	}
	i.info.Allocated = min(i.info.Allocated+min(held*count, end-off), i.info.Capacity)
	s.use(entry, block, count)
}

// use counts the blocks that share a slot.
func (s *scanner) use(entry uint32, block, count int64) {
	if int64(entry) >= s.slots.n {
		return
	}
	s.end = max(s.end, int64(entry)+1)
	more := count - 1
	if s.slots.set(int64(entry)) {
		more = count
	}
	if more > 0 && s.shared == 0 {
		s.first = block + count - more
	}
	s.shared += more
}

func (s *scanner) report() {
	if s.shared > 0 {
		s.image.info.Warn(fmt.Sprintf(
			"duplicate block map entry: %d blocks share their slot with another (the first is block %d); one of them shows the wrong data, and the image must not be written", s.shared, s.first))
	}
}
