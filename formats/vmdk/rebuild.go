package vmdk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"

	"vdfs/vdcore"
)

const maxSector = math.MaxUint32

// lostFooter reports whether the image is one compressed file whose header sends to a
// footer that is not there.
func (i *image) lostFooter(size int64) (bool, error) {
	if i.own == nil || i.own.Directory != inFooter || i.own.Flags&flagPacked == 0 || len(i.desc.Extents) != 1 {
		return false, nil
	}
	_, err := i.own.footer(i.files[0], size)
	if errors.Is(err, vdcore.ErrCorrupt) {
		return true, nil
	}
	return false, err
}

// planRebuild plans new tables, a directory and a footer for a compressed file, from
// its records alone. They go behind the last record, over whatever an interrupted
// repair, or the tool that did not come to its end, left there:
//
//	tables and directory, each behind its marker; barrier
//	the file ends where the footer will; barrier
//	the footer with its marker, and the end of the stream; barrier
//	the header sends to the footer, if it did not
//
// Before the footer is there in whole the file is as damaged as it was.
func (i *image) planRebuild(ctx context.Context, size int64) (*vdcore.RepairPlan, error) {
	g, err := i.bareGrains(size)
	if err != nil {
		return nil, err
	}
	pos, n, err := i.own.descriptorArea(size)
	if err != nil {
		return nil, err
	}
	s, err := g.scan(ctx, max(pos+n, sector))
	if err != nil {
		return nil, err
	}
	return s.plan(i)
}

// bareGrains is the file without its tables.
func (i *image) bareGrains(size int64) (*grains, error) {
	h := i.own
	if err := h.checkTables(); err != nil {
		return nil, err
	}
	g := &grains{guest: guest{0, i.info.Capacity}, name: filepath.Base(i.files[0].Path()), file: i.files[0], length: size,
		packed: true, grain: int64(h.GrainSize) * sector, perTable: int64(h.EntriesPerTable), width: 4}
	g.cover(int64(h.Capacity)*sector, &report{info: i.info})
	return g, nil
}

// plan lays out what is appended.
func (s *rescan) plan(i *image) (*vdcore.RepairPlan, error) {
	if int64(len(s.tables))*s.perTable*s.width > vdcore.MaxRepair {
		return nil, vdcore.ErrTooMuch
	}
	plan := &vdcore.RepairPlan{Files: i.files[:1], Mends: []vdcore.Mend{s.say()}}
	h := *i.own
	at := s.end
	add := func(kind uint32, data []byte) (pos int64, p vdcore.Patch) {
		b := withMarker(kind, data)
		p = vdcore.Patch{Pos: at, Data: b}
		at += int64(len(b))
		return p.Pos + sector, p
	}
	var first []vdcore.Patch
	dir := make([]byte, int64(h.entries())*s.width)
	for _, t := range slices.Sorted(maps.Keys(s.tables)) {
		var b []byte
		for _, e := range s.tables[t] {
			b = binary.LittleEndian.AppendUint32(b, e)
		}
		pos, p := add(markerTable, b)
		binary.LittleEndian.PutUint32(dir[t*s.width:], uint32(pos/sector))
		first = append(first, p)
	}
	pos, p := add(markerDirectory, dir)
	first = append(first, p)
	if at/sector > maxSector {
		return nil, fmt.Errorf("%s: no room for tables below 2 TiB: %w", s.name, vdcore.ErrUnsupported)
	}
	h.Flags, h.SpareDirectory, h.Directory, h.Unclean = h.Flags&^flagSpare, 0, uint64(pos/sector), 0
	_, last := add(markerFooter, h.packedBytes())
	last.Data = append(last.Data, make([]byte, sector)...) // the end of the stream
	plan.Steps = [][]vdcore.Patch{first, {{Resize: true, Pos: at + sector}}, {last}}
	if h.Directory = inFooter; h != *i.own {
		plan.Steps = append(plan.Steps, []vdcore.Patch{{Pos: flagsAt, Data: h.bytes()[flagsAt : uncleanAt+1]}})
	}
	return plan, nil
}

// say: what a cut file does not have any more, nobody can tell.
func (s *rescan) say() vdcore.Mend {
	m := vdcore.Mend{
		Finding: vdcore.Finding{Code: codeFooter, Text: fmt.Sprintf("%s: the tables of its compressed grains are gone; a scan finds %d grains", s.name, s.found)},
		Does: fmt.Sprintf("tables and a footer that lead to these are appended at %d; a grain that had been in the part of the file that is gone, if there was one, reads as zeros, or as the parent: NOBODY CAN TELL WHICH",
			s.end),
	}
	if s.broken > 0 {
		m.Text += fmt.Sprintf(", and %d records that are cut or damaged, which are lost", s.broken)
	}
	if s.again > 0 {
		m.Text += fmt.Sprintf("; %d grains are there more than once, and the first one of each is taken", s.again)
	}
	return m
}

// withMarker puts a metadata marker before whole sectors of data.
func withMarker(kind uint32, data []byte) []byte {
	n := (len(data) + sector - 1) / sector
	b := make([]byte, (1+n)*sector)
	binary.LittleEndian.PutUint64(b, uint64(n))
	binary.LittleEndian.PutUint32(b[12:], kind)
	copy(b[sector:], data)
	return b
}

// packedBytes is the header of a compressed file as it is on disk.
func (h *hostedHeader) packedBytes() []byte {
	b := h.bytes()
	binary.LittleEndian.PutUint16(b[77:], h.Compression)
	return b
}
