package vmdk

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	scanBuffer = 64 << 10
	// maxJumps bounds the system calls an image can cause with a directory that
	// points all over a file of holes: one or two a jump. The tables of a full 2 TiB
	// COWD file written in random order are half of it.
	maxJumps = 2 << 20
	// tryBytes is how much compressed data is tried out at open: a millisecond. All of
	// it would mean reading the file.
	tryBytes = 256 << 10
	// maxUnnoted bounds the tables that are read although it is not known whether
	// another directory entry led to them before: work stays in proportion to the
	// file.
	maxUnnoted = 1 << 18
)

// verify reads the directory, then every table, in the order of the guest. Holes
// of the file are skipped, so that the preallocated tables of an empty disk cost
// nothing.
func (g *grains) verify(r *report) error {
	g.flaws = sync.OnceValue(g.newFlaws)
	g.state = make([]tableState, g.tableCount())
	d := directoryPass{grains: g, report: r, taken: newSeen(g.perTable*g.width, g.length), doubles: map[int64]bool{}}
	defer d.taken.free()
	if err := d.run(); err != nil {
		return err
	}
	unit := g.grain
	if g.packed { // records of any length begin at any sector
		unit, g.bad = sector, map[int64]bool{}
	}
	t := tablePass{grains: g, report: r, taken: newSeen(unit, g.length), keep: g.alloc == nil}
	defer t.taken.free()
	if g.packed {
		t.records = newRecords(t.taken, g.tableCount()*g.perTable)
	}
	if g.alloc != nil {
		var err error
		if t.claims, err = g.claimTables(); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	if err := t.run(); err != nil {
		return err
	}
	if t.keep {
		g.known, g.knowsAll = slices.Clip(t.runs), true
	}
	if n := g.size - g.covered; n > 0 {
		r.lost(g.at+g.covered, n, g.flaws().uncovered)
	}
	if t.claims != nil {
		return g.fillGaps(t.claims)
	}
	return nil
}

// directoryPass judges where each table lies and fills grains.state.
type directoryPass struct {
	*grains
	report  *report
	taken   *seen
	doubles map[int64]bool // units of taken that two tables begin in
	unnoted int
	spares  int
	last    area // tables so far that follow each other in the file
}

func (d *directoryPass) run() error {
	if err := d.eachEntry(d.dir, d.tableCount()*d.width, d.check); err != nil {
		return err
	}
	d.noteTables()
	if err := d.rejectDoubles(); err != nil {
		return err
	}
	if d.spares > 0 {
		d.report.warn(fmt.Sprintf("%s: %d grain tables past the end of the file or misplaced; their redundant copies are used", d.name, d.spares))
	}
	return nil
}

// check judges one directory entry that is not 0.
func (d *directoryPass) check(t int64, entry uint64) error {
	state := tableMain
	pos, ok := d.usable(t, entry)
	if !ok && d.spare != 0 {
		state = tableSpare
		var err error
		if pos, ok, err = d.fromSpare(t); err != nil {
			return err
		}
	}
	if !ok {
		d.state[t] = tableLost
		return nil
	}
	again, noted := d.taken.note(pos)
	if again {
		d.state[t] = tableLost
		d.doubles[pos/d.taken.unit] = true
		return nil
	}
	if !noted {
		d.unnoted++
	}
	if d.unnoted > maxUnnoted || d.report.jumps > maxJumps {
		return fmt.Errorf("%s: grain tables scattered too widely to be checked: %w", d.name, vdcore.ErrUnsupported)
	}
	if state == tableSpare {
		d.spares++
	}
	d.state[t] = state
	d.join(pos, d.tableSize(t))
	return nil
}

// rejectDoubles takes back the first of the entries that lead to one table: either
// may be the wrong one, and then the redundant copy is no help.
func (d *directoryPass) rejectDoubles() error {
	if len(d.doubles) == 0 {
		return nil
	}
	return d.eachEntry(d.dir, d.tableCount()*d.width, func(t int64, _ uint64) error {
		if d.state[t] == tableLost {
			return nil
		}
		pos, err := d.tablePos(t)
		if err == nil && d.doubles[pos/d.taken.unit] {
			d.state[t] = tableLost
		}
		return err
	})
}

// usable checks the place of a table: in the file, and not over other metadata.
func (d *directoryPass) usable(t int64, entry uint64) (int64, bool) {
	pos, ok := d.table(entry)
	n := d.tableSize(t)
	return pos, ok && d.inside(pos, n) && !d.hitsMeta(pos, n)
}

// fromSpare looks for the table in the redundant directory.
func (d *directoryPass) fromSpare(t int64) (int64, bool, error) {
	var buf [8]byte
	if err := d.tables.ReadAt(d.file, buf[:d.width], d.spare+t*d.width); err != nil {
		return 0, false, err
	}
	entry := d.entry(buf[:], 0)
	if entry == 0 {
		return 0, false, nil
	}
	pos, ok := d.usable(t, entry)
	return pos, ok, nil
}

// join collects tables that follow each other in the file.
func (d *directoryPass) join(pos, n int64) {
	if pos != d.last.to {
		d.report.jumps++
		d.noteTables()
		d.last.from = pos
	}
	d.last.to = pos + n
}

// noteTables forbids the place of the collected tables to grains. Compressed
// grains are safe without: a table is no record with the right address.
func (d *directoryPass) noteTables() {
	if !d.packed {
		d.noteMeta(d.last.from, d.last.to-d.last.from)
	}
}

// tablePass reads the tables that state says are there.
type tablePass struct {
	*grains
	report  *report
	taken   *seen   // grains, or
	records records // of compressed ones
	claims  *claims // nil unless the image is open for writing
	shared  int64
	batch   batch
	unit    []byte // memory for a grain that is tried out
	runs    []known
	keep    bool // runs are all that was found so far
}

// batch is a run of tables of one state that follow each other both in the guest
// and in the file.
type batch struct {
	first, count int64
	pos, bytes   int64
	state        tableState
}

func (p *tablePass) run() error {
	if err := p.eachEntry(p.dir, p.tableCount()*p.width, p.enter); err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	if p.shared > 0 {
		p.report.warn(fmt.Sprintf("%s: two grain table entries share a grain (%d times)", p.name, p.shared))
	}
	return nil
}

// enter puts one table into the batch.
func (p *tablePass) enter(t int64, entry uint64) error {
	state := p.state[t]
	if state == tableLost {
		if err := p.flush(); err != nil {
			return err
		}
		p.report.lost(p.at+t*p.span(), min(p.span(), p.covered-t*p.span()), p.flaws().badTable)
		return nil
	}
	pos, err := p.placeOf(t, entry)
	if err != nil {
		return err
	}
	b := &p.batch
	if t != b.first+b.count || pos != b.pos+b.bytes || state != b.state {
		if err := p.flush(); err != nil {
			return err
		}
		*b = batch{first: t, pos: pos, state: state}
	}
	b.count++
	b.bytes += p.tableSize(t)
	return nil
}

// flush reads the tables of the batch. Those that hold nothing but zeros become
// empty.
func (p *tablePass) flush() error {
	b := p.batch
	p.batch = batch{}
	for t := b.first; t < b.first+b.count; t++ {
		p.state[t] = tableEmpty
	}
	return p.eachChunk(b.pos, b.bytes, func(first int64, entries []byte) error {
		p.checkChunk(b, first, entries)
		return nil
	})
}

// checkChunk looks at entries of the batch, from the one numbered first on.
func (p *tablePass) checkChunk(b batch, first int64, entries []byte) {
	count := int64(len(entries)) / p.width
	for i := int64(0); i < count; {
		toTableEnd := p.perTable - (first+i)%p.perTable
		n := p.runAt(entries[:min(i+toTableEnd, count)*p.width], i)
		if entry := p.entry(entries, i); entry != 0 {
			p.state[b.first+(first+i)/p.perTable] = b.state
			p.checkRun(b.first*p.perTable+first+i, n, entry)
			p.remember(known{b.first*p.perTable + first + i, n, entry})
		}
		i += n
	}
}

// remember keeps a run, unless there are too many.
func (p *tablePass) remember(k known) {
	if p.keep = p.keep && len(p.runs) < maxKnown; p.keep {
		p.runs = append(p.runs, k)
	}
}

// checkRun looks at n grains, to the first of which entry leads.
func (p *tablePass) checkRun(grain, n int64, entry uint64) {
	off := grain * p.grain
	want := min(n*p.grain, p.covered-off)
	kind, pos, avail, why := p.locate(entry, want)
	switch kind {
	case vdcore.Lost:
		p.report.lost(p.at+off, want, why)
	case vdcore.Packed:
		if err := p.tryUnpack(off, pos); err != nil {
			p.bad[off] = true
			p.report.lost(p.at+off, want, vdcore.Flaw(codeRecord, err))
			return
		}
		p.report.held(want)
	case vdcore.Data:
		p.report.held(avail)
		if avail < want {
			p.report.lost(p.at+off+avail, want-avail, p.flaws().pastEOF)
		}
		p.shared += p.taken.noteRun(pos, (avail+p.grain-1)/p.grain)
		if p.claims != nil && avail == want { // otherwise it is damage, and not written
			p.claims.grains(off, pos, want)
		}
	}
}

// tryUnpack unpacks the first grains of an image, to notice one that was mangled
// as a whole before it is used, and as many more of those that share a record,
// which names the one grain it belongs to. Others are found when they are read.
func (p *tablePass) tryUnpack(off, pos int64) error {
	spent := &p.report.unpacked
	if p.records.note(pos) {
		p.shared++
		spent = &p.report.doubted
	}
	if *spent >= tryBytes {
		return nil
	}
	*spent += p.grain
	unit, err := p.unpack(p.unit, off, pos)
	switch {
	case err == nil:
		p.unit = unit
	case errors.Is(err, vdcore.ErrCorrupt):
		return err
	}
	return nil // an I/O error shows when it is read
}

// eachEntry calls fn for the entries in n bytes of the file that are not 0.
func (g *grains) eachEntry(pos, n int64, fn func(i int64, entry uint64) error) error {
	return g.eachChunk(pos, n, func(first int64, entries []byte) error {
		for i := range int64(len(entries)) / g.width {
			entry := g.entry(entries, i)
			if entry == 0 {
				continue
			}
			if err := fn(first+i, entry); err != nil {
				return err
			}
		}
		return nil
	})
}

// scanBuffers are used again: a long chain reads through many tables when it is opened.
var scanBuffers = sync.Pool{New: func() any { return new([scanBuffer]byte) }}

// eachChunk streams the entries in n bytes of the file, passing over its holes;
// first is the number of the first entry of a chunk.
func (g *grains) eachChunk(pos, n int64, fn func(first int64, entries []byte) error) error {
	memory := scanBuffers.Get().(*[scanBuffer]byte)
	defer scanBuffers.Put(memory)
	buf := memory[:min(n, scanBuffer)]
	for off := int64(0); off < n; {
		data, err := g.file.NextData(pos + off)
		if err != nil {
			return err
		}
		if skip := data - (pos + off); skip > 0 {
			off += skip - skip%g.width
			if off >= n {
				return nil
			}
		}
		b := buf[:min(n-off, scanBuffer)]
		if err := storage.ReadFull(g.file, b, pos+off); err != nil {
			return fmt.Errorf("read tables of %s: %w", g.name, err)
		}
		if err := fn(off/g.width, b); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}
