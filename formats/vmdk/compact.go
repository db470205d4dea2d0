package vmdk

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	// scanMoves bounds the memory of a scan for the last grains of a file.
	scanMoves = 1 << 18
	moveBytes = 256 << 20 // copied between two barriers
	copyChunk = 1 << 20   // bytes copied at a time
)

var _ vdcore.Compacter = (*writer)(nil)

// Compact moves the last grains of each file into the gaps, and cuts the file off
// behind the others. Tables stay where they are.
func (w *writer) Compact(ctx context.Context, progress func(done, total int64)) error {
	m := &mover{writer: w, ctx: ctx, progress: progress}
	for _, g := range w.sparse() {
		m.total += g.alloc.room() // at most
	}
	for _, g := range w.sparse() {
		if err := m.fillGaps(g); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return nil
}

// mover moves grains, until ctx ends.
type mover struct {
	*writer
	ctx         context.Context
	progress    func(done, total int64) // may be nil
	done, total int64                   // bytes
}

// fillGaps moves grains until none lies behind a gap. One scan of the tables finds
// as many as memory allows.
func (m *mover) fillGaps(g *grains) error {
	for {
		gaps := g.alloc.lowest(scanMoves)
		if len(gaps) == 0 {
			return g.giveUpGaps()
		}
		last, err := g.lastGrains(len(gaps), gaps[0])
		if err != nil {
			return err
		}
		n := 0
		for n < len(last) && last[n].pos > gaps[n] {
			n++
		}
		if n == 0 {
			return g.giveUpGaps()
		}
		last = last[:n]
		slices.SortFunc(last, func(a, b held) int { return cmp.Compare(a.off, b.off) })
		if err := m.moveAll(g, last); err != nil {
			return err
		}
		g.alloc.trim()
		if err := g.cut(); err != nil {
			return err
		}
	}
}

// giveUpGaps cuts off what lies last, and makes holes of the gaps before tables.
func (g *grains) giveUpGaps() error {
	for _, f := range g.alloc.free {
		if err := storage.Zero(g.file, f.from, f.to-f.from); err != nil {
			return err
		}
	}
	return g.cut()
}

// held is a grain: its guest offset in the extent, and its place.
type held struct{ off, pos int64 }

// lastGrains lists up to n grains that lie last in the file, the last one first, and
// none before a position.
func (g *grains) lastGrains(n int, from int64) (list []held, err error) {
	keep := func() {
		slices.SortFunc(list, func(a, b held) int { return cmp.Compare(b.pos, a.pos) })
		list = list[:min(n, len(list))]
	}
	for t := range g.tableCount() {
		if g.state[t] != tableMain {
			continue
		}
		pos, err := g.tablePos(t)
		if err != nil {
			return nil, err
		}
		if err := g.eachEntry(pos, g.tableSize(t), func(i int64, entry uint64) error {
			if kind, pos := g.grainOf(entry); kind == vdcore.Data && pos > from {
				if list = append(list, held{t*g.span() + i*g.grain, pos}); len(list) >= 2*scanMoves {
					keep()
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	keep()
	return list, nil
}

// moveAll moves grains into the lowest gaps, so many bytes between two barriers.
func (m *mover) moveAll(g *grains, list []held) error {
	for len(list) > 0 {
		n := min(len(list), int(max(moveBytes/g.grain, 1)))
		if err := m.move(g, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// move copies grains, and has the tables lead to the copies once they are durable.
// The old places are free once the entries are durable too.
func (m *mover) move(g *grains, list []held) error {
	var changes []vdcore.Change
	buf := make([]byte, copyChunk)
	for _, h := range list {
		pos, err := m.copy(g, buf, h.pos)
		if err != nil {
			for _, c := range changes {
				g.alloc.release(c.Place.Pos)
			}
			return err
		}
		changes = append(changes, vdcore.Change{Unit: m.Unit(g.at + h.off), Kind: vdcore.Data, Place: vdcore.Place{File: g.index, Pos: pos}})
	}
	if err := g.file.DataSync(); err != nil {
		return err
	}
	if err := m.Publish(changes); err != nil {
		return err
	}
	if err := g.file.DataSync(); err != nil {
		return err
	}
	for _, h := range list {
		g.alloc.release(h.pos)
	}
	return nil
}

// copy copies a grain to the lowest free place.
func (m *mover) copy(g *grains, buf []byte, from int64) (pos int64, err error) {
	if err := context.Cause(m.ctx); err != nil {
		return 0, err
	}
	if pos, err = g.alloc.reserve(); err != nil {
		return 0, err
	}
	if err = storage.Copy(g.file, pos, g.file, from, g.grain, buf); err != nil {
		g.alloc.release(pos)
		return 0, err
	}
	if m.done += g.grain; m.progress != nil {
		m.progress(m.done, max(m.done, m.total))
	}
	return pos, nil
}
