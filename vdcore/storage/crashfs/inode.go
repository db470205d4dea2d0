package crashfs

import "slices"

// SectorSize is what is written whole or not at all.
const SectorSize = 512

// sector is the content of one sector; it never changes. nil is a hole.
type sector = *[SectorSize]byte

var zeros [SectorSize]byte

// inode is the content of one file.
type inode struct {
	id uint64

	// What a reader sees. sectors covers size exactly; bytes behind it are zero.
	sectors []sector
	size    int64
	owned   bool // sectors is shared with nobody
	written int  // operation of the last change

	// What is durable. The slice is never written.
	durable     []sector
	durableSize int64

	pending []record // since the last sync, oldest first
	sizes   []resize // since the last sync, oldest first
}

// record is what one operation did to neighbouring sectors.
type record struct {
	op      int
	first   int64
	sectors []sector
	// cutOff records come from shrinking the file.
	cutOff bool
	// dropped records were to be written by a sync that failed. No later sync makes
	// them durable.
	dropped bool
}

type resize struct {
	op   int
	size int64
}

func sectorsOf(size int64) int64 { return (size + SectorSize - 1) / SectorSize }

// newInode makes a durable file of data, which is not copied.
func newInode(id uint64, data []byte) *inode {
	n := &inode{id: id, size: int64(len(data))}
	n.sectors = make([]sector, sectorsOf(n.size))
	for i := range n.sectors {
		part := data[i*SectorSize:]
		if len(part) >= SectorSize {
			n.sectors[i] = sector(part)
		} else {
			n.sectors[i] = new([SectorSize]byte)
			copy(n.sectors[i][:], part)
		}
		if *n.sectors[i] == zeros {
			n.sectors[i] = nil
		}
	}
	n.durable, n.durableSize = n.sectors, n.size
	return n
}

// read copies content from off on and returns how much there was.
func (n *inode) read(p []byte, off int64) int {
	p = p[:max(0, min(int64(len(p)), n.size-off))]
	for done := 0; done < len(p); {
		at := off + int64(done)
		part := p[done:min(len(p), done+int(SectorSize-at%SectorSize))]
		if s := n.sectors[at/SectorSize]; s == nil {
			clear(part)
		} else {
			copy(part, s[at%SectorSize:])
		}
		done += len(part)
	}
	return len(p)
}

// own makes sectors writable.
func (n *inode) own() {
	if !n.owned {
		n.sectors = slices.Clone(n.sectors)
		n.owned = true
	}
}

// write puts p at off. Its sectors are made in one piece.
func (n *inode) write(op int, p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	if end := off + int64(len(p)); end > n.size {
		n.resize(op, end)
	}
	n.own()
	first, end := off/SectorSize, sectorsOf(off+int64(len(p)))
	slab := make([]byte, (end-first)*SectorSize)
	for _, i := range []int64{first, end - 1} { // the others are overwritten whole
		if s := n.sectors[i]; s != nil {
			copy(slab[(i-first)*SectorSize:], s[:])
		}
	}
	copy(slab[off-first*SectorSize:], p)
	r := record{op: op, first: first, sectors: make([]sector, end-first)}
	for i := range r.sectors {
		r.sectors[i] = sector(slab[i*SectorSize:])
	}
	copy(n.sectors[first:], r.sectors)
	n.pending = append(n.pending, r)
	n.written = op
}

// punch makes [off, off+length) zeros, and holes of the sectors wholly inside.
func (n *inode) punch(op int, off, length int64) {
	n.blank(op, off, min(off+length, n.size), false)
}

// blank is punch, and what shrinking does to the sectors it cuts off.
func (n *inode) blank(op int, off, stop int64, cutOff bool) {
	if off >= stop {
		return
	}
	n.own()
	first, end := off/SectorSize, sectorsOf(stop)
	r := record{op: op, first: first, sectors: make([]sector, end-first), cutOff: cutOff}
	for i := range r.sectors {
		at := (first + int64(i)) * SectorSize
		old := n.sectors[first+int64(i)]
		whole := at >= off && min(at+SectorSize, n.size) <= stop
		if old == nil || whole {
			continue
		}
		s := *old
		clear(s[max(0, off-at):min(SectorSize, stop-at)])
		r.sectors[i] = &s
	}
	copy(n.sectors[first:], r.sectors)
	n.pending = append(n.pending, r)
	n.written = op
}

// resize changes the size; what is added reads as zeros.
func (n *inode) resize(op int, size int64) {
	n.own()
	if size < n.size {
		n.blank(op, size, n.size, true)
	}
	want := sectorsOf(size)
	if have := int64(len(n.sectors)); want > have {
		n.sectors = append(n.sectors, make([]sector, want-have)...)
	}
	n.sectors = n.sectors[:want]
	n.size, n.written = size, op
	n.sizes = append(n.sizes, resize{op, size})
}

// pendingSectors lists the sectors a sync would write, sorted.
func (n *inode) pendingSectors() []int64 {
	var list []int64
	for _, r := range n.pending {
		if r.dropped {
			continue
		}
		for i := range r.sectors {
			list = append(list, r.first+int64(i))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// sync makes everything durable but what a failed sync dropped.
func (n *inode) sync() {
	dropped := n.lost()
	if len(dropped) == 0 {
		n.durable, n.owned = n.sectors, false
		n.durableSize = n.size
		n.pending, n.sizes = nil, nil
		return
	}
	durable := resized(n.durable, n.size)
	for i, s := range n.sectors {
		if _, lost := dropped[int64(i)]; !lost {
			durable[i] = s
		}
	}
	n.durable, n.durableSize, n.sizes = durable, n.size, nil
	var kept []record
	for _, r := range n.pending {
		if r.dropped {
			kept = append(kept, r.only(dropped)...)
		}
	}
	n.pending = kept
}

// lost collects the sectors whose newest version was dropped.
func (n *inode) lost() map[int64]bool {
	var lost map[int64]bool
	for _, r := range n.pending {
		for i := range r.sectors {
			at := r.first + int64(i)
			switch {
			case !r.dropped:
				delete(lost, at)
			case lost == nil:
				lost = map[int64]bool{at: true}
			default:
				lost[at] = true
			}
		}
	}
	return lost
}

// only splits a record into one for each sector that is among these.
func (r record) only(these map[int64]bool) []record {
	var list []record
	for i, s := range r.sectors {
		if at := r.first + int64(i); these[at] {
			list = append(list, record{op: r.op, first: at, sectors: []sector{s}, dropped: true})
		}
	}
	return list
}

// syncFailed marks what is pending as dropped. The size stays pending: it is the
// file system's own and goes through its journal.
func (n *inode) syncFailed() {
	for i := range n.pending {
		n.pending[i].dropped = true
		n.pending[i].cutOff = false
	}
}

// resized returns a copy that covers size, without bytes behind it.
func resized(sectors []sector, size int64) []sector {
	list := make([]sector, sectorsOf(size))
	copy(list, sectors)
	if tail := size % SectorSize; tail != 0 && list[len(list)-1] != nil {
		s := *list[len(list)-1]
		clear(s[tail:])
		list[len(list)-1] = &s
	}
	return list
}
