package crashfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Mode says how to choose among the states a disk can be in after a power cut.
type Mode int

const (
	Nothing    Mode = iota // what is durable, no more
	Everything             // all that was written
	Prefix                 // all operations up to one, that one in part
	Suffix                 // none before an operation: what came last went first
	Files                  // all of some files, nothing of the others
	Writes                 // some operations, each as a whole
	Sectors                // any version of each sector
	Few                    // few sectors of what was written
	Most                   // most sectors of what was written
	modes
)

func (m Mode) String() string {
	return [...]string{"nothing", "everything", "prefix", "suffix", "files", "writes", "sectors", "few", "most"}[m]
}

// Modes lists all of them.
func Modes() []Mode {
	list := make([]Mode, modes)
	for i := range list {
		list[i] = Mode(i)
	}
	return list
}

// Survive returns one of the states the disk can be in if the power goes now, or
// went at the cut, chosen by a mode chosen by r: nothing more than what is durable
// when r is nil. The result is durable and independent of f; its operations are
// counted from 1 and nothing is cut.
func (f *FS) Survive(r *rand.Rand) *FS {
	if r == nil {
		return f.SurviveAs(Nothing, nil)
	}
	return f.SurviveAs(Mode(r.IntN(int(modes))), r)
}

// Clone returns the file system as a reader sees it now, all of it durable.
func (f *FS) Clone() *FS { return f.SurviveAs(Everything, nil) }

// SurviveAs is Survive in a given mode. Nothing and Everything need no r.
func (f *FS) SurviveAs(m Mode, r *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	to := New(f.search...)
	to.nextID = f.nextID
	if m == Everything { // not by the records: a clone must be cheap
		for path, n := range f.files {
			to.adopt(path, n.id, n.share(), n.size)
		}
		return to
	}
	p := &picker{mode: m, r: r}
	if m == Prefix || m == Suffix {
		p.turn = f.turn(r)
	}
	names := p.names(f.disk)
	for _, path := range slices.Sorted(maps.Keys(names)) { // one order, for one r
		p.file()
		n := names[path]
		size, at := p.size(n)
		to.adopt(path, n.id, p.sectors(n, size, at), size)
	}
	return to
}

// share gives the current sectors to another file too.
func (n *inode) share() []sector {
	n.owned = false
	return n.sectors
}

func (d *disk) adopt(path string, id uint64, sectors []sector, size int64) {
	n := &inode{id: id, sectors: sectors, size: size, durable: sectors, durableSize: size}
	d.files[path], d.names[path] = n, n
}

// turn chooses an operation among those that changed what is pending.
func (d *disk) turn(r *rand.Rand) int {
	var ops []int
	for _, m := range d.moves {
		ops = append(ops, m.op)
	}
	for _, path := range slices.Sorted(maps.Keys(d.files)) {
		for _, rec := range d.files[path].pending {
			ops = append(ops, rec.op)
		}
		for _, s := range d.files[path].sizes {
			ops = append(ops, s.op)
		}
	}
	slices.Sort(ops)
	if ops = slices.Compact(ops); len(ops) == 0 {
		return 0
	}
	return ops[r.IntN(len(ops))]
}

// picker chooses what survives.
type picker struct {
	mode Mode
	r    *rand.Rand
	turn int          // the operation Prefix and Suffix turn at
	all  bool         // of this file, for Files
	ops  map[int]bool // verdicts on whole operations, for Writes
	tear int          // of 8 sectors of operation turn, how many survive
}

// file begins another file.
func (p *picker) file() {
	if p.r != nil {
		p.all, p.tear = p.r.IntN(2) == 0, p.r.IntN(9)
	}
}

// takes decides on one sector, or a size or name, that operation op changed.
func (p *picker) takes(op int, sector bool) bool {
	switch p.mode {
	case Everything:
		return true
	case Prefix:
		if op == p.turn && sector {
			return p.r.IntN(8) < p.tear
		}
		return op <= p.turn
	case Suffix:
		return op >= p.turn
	case Files:
		return p.all
	case Writes:
		return p.whole(op)
	case Sectors:
		return p.r.IntN(2) == 0
	case Few:
		return p.r.IntN(8) == 0
	case Most:
		return p.r.IntN(8) != 0
	}
	return false
}

// whole remembers one verdict for all an operation did.
func (p *picker) whole(op int) bool {
	v, ok := p.ops[op]
	if !ok {
		if p.ops == nil {
			p.ops = map[int]bool{}
		}
		v = p.r.IntN(2) == 0
		p.ops[op] = v
	}
	return v
}

// names decides which files there are.
func (p *picker) names(d *disk) map[string]*inode {
	names := maps.Clone(d.names)
	for _, m := range d.moves {
		if p.file(); !p.takes(m.op, false) {
			continue
		}
		m.apply(names)
	}
	return names
}

// size decides how long a file is, and which operation made it so.
func (p *picker) size(n *inode) (size int64, op int) {
	size = n.durableSize
	for i, s := range n.sizes {
		take := p.takes(s.op, false)
		if p.mode == Sectors { // each with the same chance, the durable one too
			take = p.r.IntN(i+2) == 0
		}
		if take {
			size, op = s.size, s.op
		}
	}
	return size, op
}

// sectors decides what a file of the chosen size holds. op is the operation that
// chose it: cut-offs up to it have happened for certain.
func (p *picker) sectors(n *inode, size int64, op int) []sector {
	if len(n.pending) == 0 && size == n.durableSize {
		return n.durable
	}
	list := make([]sector, max(sectorsOf(size), n.reach()))
	copy(list, n.durable)
	versions := make([]int, len(list))
	for _, rec := range n.pending {
		certain := rec.cutOff && rec.op <= op
		for i, s := range rec.sectors {
			at := rec.first + int64(i)
			versions[at]++
			switch {
			case certain:
				versions[at] = 0
			case p.mode == Sectors: // each version with the same chance
				if p.r.IntN(versions[at]+1) != 0 {
					continue
				}
			case !p.takes(rec.op, true):
				continue
			}
			list[at] = s
		}
	}
	return resized(list, size)
}

// reach is the end of all sectors that are known of a file.
func (n *inode) reach() int64 {
	end := int64(len(n.durable))
	for _, r := range n.pending {
		end = max(end, r.first+int64(len(r.sectors)))
	}
	return end
}
