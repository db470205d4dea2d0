package vdi

import (
	"context"
	"encoding/binary"
	"fmt"

	"vdfs/vdcore"
)

// maxMoves bounds the blocks one repair moves.
const maxMoves = 1 << 20

// repair plans what mends an image. Which slots are in use follows from the map,
// never from the header's count.
func repair(_ context.Context, args vdcore.OpenArgs) (*vdcore.RepairPlan, error) {
	args.Shallow, args.Write = true, false
	img, err := open(args)
	if err != nil {
		return nil, err
	}
	m, err := img.(*image).newMender()
	if err != nil {
		return nil, err
	}
	return m.plan, nil
}

// mender judges an image against every rule VirtualBox, QEMU and this program go by,
// and plans what mends it:
//
//	the file reaches to the end of the last slot in use, if it was cut inside;
//	bad entries become free;
//	the last blocks are copied into the slots nothing leads to;
//	their entries;
//	the header;
//	the file ends behind the last slot in use.
type mender struct {
	*image
	plan *vdcore.RepairPlan

	slots bitmap // in use, by the first entry that leads there
	end   int64  // first slot behind those
	used  int64  // the same after the moves
	bad   []run  // entries that become free, in order
	wipes int64  // how many these are
	tail  int64  // guest bytes wanted of the last slot in the file; 0: not in use
	torn  vdcore.Mend
	moves []move
}

// run is count blocks from block on.
type run struct{ block, count int64 }

func (i *image) newMender() (*mender, error) {
	m := &mender{image: i, plan: &vdcore.RepairPlan{Files: i.Files()}}
	if m.slotCount() > maxSlots {
		return nil, fmt.Errorf("the file has room for %d blocks, more than are kept track of: %w", m.slotCount(), vdcore.ErrUnsupported)
	}
	m.slots = newBitmap(m.slotCount())
	if err := m.judgeMap(); err != nil {
		return nil, err
	}
	if len(m.bad) > 0 && m.header.OffMap%4 != 0 {
		m.keepAll()
		return m, nil
	}
	if err := m.planMoves(); err != nil {
		return nil, err
	}
	m.planLength()
	m.planMap()
	m.planGaps()
	m.noteTail()
	if err := m.planHeader(); err != nil {
		return nil, err
	}
	if !m.fixed() && m.slotsInFile() > m.used {
		m.step(vdcore.Patch{Resize: true, Pos: m.position(m.used)})
	}
	return m, nil
}

// keepAll gives up on an image whose entries cannot be replaced one by one.
func (m *mender) keepAll() {
	m.plan.Kept = []vdcore.Finding{{Code: "map-misaligned", Text: fmt.Sprintf(
		"the block map begins at %d, so that an entry may lie in two sectors and a power cut may tear it: its bad entries are left alone", m.header.OffMap)}}
	for _, mend := range m.plan.Mends {
		m.plan.Kept = append(m.plan.Kept, mend.Finding)
	}
	m.plan.Mends = nil
}

func (m *mender) fixed() bool { return m.header.Type == typeFixed }

// slotCount is how many slots an entry may lead to: those that begin in the file, and
// all of a fixed image, whose file is made whole.
func (m *mender) slotCount() int64 {
	if m.fixed() {
		return int64(m.header.Blocks)
	}
	return m.slotsInFile()
}

// position is where a slot begins, with its extra bytes.
func (m *mender) position(slot int64) int64 {
	return int64(m.header.OffData) + slot*m.header.slotSize()
}

// judgeMap finds the entries that lead nowhere, to another's slot, or to one the
// file ends in. Of several users of a slot the first keeps it, as in VirtualBox.
func (m *mender) judgeMap() error {
	outside := vdcore.Mend{Finding: vdcore.Finding{Code: codeOutside}, Does: "they become free; where they led is kept in the backup"}
	shared := vdcore.Mend{Finding: vdcore.Finding{Code: codeShared},
		Does: "the first block that leads to a slot keeps it, though it may be the wrong one; the others become free"}
	m.torn = vdcore.Mend{Finding: vdcore.Finding{Code: codeTorn, Text: fmt.Sprintf("the file ends at %d, inside a block in use", m.info.FileSize)},
		Does: "the file is made longer: what is there of the block stays, the rest of it becomes zeros"}
	err := m.entries(func(slot uint32, block, count int64) error {
		n := int64(slot)
		switch {
		case n >= m.slots.n || !m.fixed() && m.place(slot) >= m.info.FileSize:
			return m.free(&outside, block, count)
		case m.slots.set(n):
			return m.free(&shared, block, count)
		}
		m.end = max(m.end, n+1)
		m.judgeLength(slot, block)
		if count > 1 {
			return m.free(&shared, block+1, count-1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	blocks := func(mend vdcore.Mend, text string) {
		if size := int64(m.header.BlockSize); mend.Bytes > 0 {
			mend.Text = fmt.Sprintf(text, (mend.Bytes+size-1)/size)
			m.plan.Mends = append(m.plan.Mends, mend)
		}
	}
	blocks(outside, "%d blocks lead past the end of the file")
	blocks(shared, "%d blocks share their slot with another; one of them shows the wrong data")
	if m.torn.Bytes > 0 {
		m.plan.Mends = append(m.plan.Mends, m.torn)
	}
	return nil
}

// free takes note of entries that become free.
func (m *mender) free(why *vdcore.Mend, block, count int64) error {
	size := int64(m.header.BlockSize)
	why.Lose(block*size, min((block+count)*size, m.info.Capacity)-block*size)
	if m.wipes += count; 4*m.wipes > vdcore.MaxRepair {
		return vdcore.ErrTooMuch
	}
	if k := len(m.bad); k > 0 && m.bad[k-1].block+m.bad[k-1].count == block {
		m.bad[k-1].count += count
	} else {
		m.bad = append(m.bad, run{block, count})
	}
	return nil
}

// judgeLength takes note of a block the file ends in.
func (m *mender) judgeLength(slot uint32, block int64) {
	size := int64(m.header.BlockSize)
	need := min(size, m.info.Capacity-block*size)
	held := min(max(m.info.FileSize-m.place(slot), 0), size)
	if held < size {
		m.tail = need
	}
	m.torn.Lose(block*size+held, need-held)
}

// planMoves finds the blocks behind the first used slots, as many as there are, and
// gives each a slot nothing leads to.
func (m *mender) planMoves() error {
	if m.used = m.end; m.fixed() || m.header.OffMap%4 != 0 {
		return nil
	}
	used := m.slots.count()
	m.used = used
	bad, next := m.bad, int64(0)
	return m.entries(func(slot uint32, block, _ int64) error {
		for len(bad) > 0 && bad[0].block+bad[0].count <= block {
			bad = bad[1:]
		}
		if int64(slot) < used || len(bad) > 0 && bad[0].block <= block {
			return nil
		}
		if len(m.moves) == maxMoves {
			return vdcore.ErrTooMuch
		}
		next = m.slots.nextClear(next, used)
		m.moves = append(m.moves, move{block, slot, uint32(next)})
		next++
		return nil
	})
}

// planLength makes the file as long as what is in use.
func (m *mender) planLength() {
	switch {
	case m.fixed() && (m.torn.Bytes > 0 || m.tail > 0):
		m.step(vdcore.Patch{Resize: true, Pos: m.position(m.slots.n)})
	case !m.fixed() && m.tail > 0 && (m.torn.Bytes > 0 || len(m.moves) > 0):
		m.step(vdcore.Patch{Resize: true, Pos: m.position(m.slotsInFile())})
	}
}

func (m *mender) step(patches ...vdcore.Patch) {
	if len(patches) > 0 {
		m.plan.Steps = append(m.plan.Steps, patches)
	}
}

func (m *mender) planMap() {
	var patches []vdcore.Patch
	for _, r := range m.bad {
		b := make([]byte, 4*r.count)
		for k := range b {
			b[k] = 0xFF // entryFree
		}
		patches = append(patches, vdcore.Patch{Pos: int64(m.header.OffMap) + 4*r.block, Data: b})
	}
	m.step(patches...)
}

// planGaps closes the gaps between the slots.
func (m *mender) planGaps() {
	gaps := m.end - m.used
	if gaps == 0 {
		return
	}
	m.plan.Mends = append(m.plan.Mends, vdcore.Mend{
		Finding: vdcore.Finding{Code: codeLeaked, Leak: true, Bytes: gaps * m.header.slotSize(),
			Text: fmt.Sprintf("%d slots below the last one in use hold nothing", gaps)},
		Does: fmt.Sprintf("the last %d blocks move there; what was there is kept in the backup", len(m.moves)),
	})
	var copies, entries []vdcore.Patch
	for _, v := range m.moves {
		copies = append(copies, vdcore.Patch{Pos: m.position(int64(v.to)), From: m.position(int64(v.from)), Len: m.header.slotSize()})
		entries = append(entries, vdcore.Patch{Pos: int64(m.header.OffMap) + 4*v.block, Data: binary.LittleEndian.AppendUint32(nil, v.to)})
	}
	m.step(copies...)
	m.step(entries...)
}

// noteTail: what lies behind the last slot in use is cut off, of any but a fixed
// image, whose slots need not be in use.
func (m *mender) noteTail() {
	n := m.slotsInFile() - m.end
	if n <= 0 || m.fixed() {
		return
	}
	m.plan.Mends = append(m.plan.Mends, vdcore.Mend{
		Finding: vdcore.Finding{Code: codeTail, Leak: true, Bytes: n * m.header.slotSize(),
			Text: fmt.Sprintf("%d slots behind the last one in use hold nothing", n)},
		Does: "they are cut off, and kept in the backup",
	})
}
