package vmdk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// scanBudget bounds how much a scan unpacks, as a multiple of the file: a file made to
// be slow has a plausible record in every sector.
const scanBudget = 8

// rescan finds the grains of a compressed file by its records, without any table. Each
// names the grain it holds, and its checksum tells whether it is whole.
type rescan struct {
	*grains
	tables map[int64][]uint32 // by number, those that have a grain
	found  int64
	again  int64 // records of a grain that has one already: the first one counts
	broken int64 // records that are cut or do not unpack
	end    int64 // behind the last record, bytes
	spent  int64
}

// scan goes through the file, sector by sector where it makes no sense.
func (g *grains) scan(ctx context.Context, from int64) (*rescan, error) {
	s := &rescan{grains: g, tables: map[int64][]uint32{}, end: from}
	head := make([]byte, sector)
	for pos := from; pos <= g.length-markerSize; {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		data, err := g.file.NextData(pos)
		if err != nil {
			return nil, err
		}
		if pos = max(pos, data/sector*sector); pos > g.length-markerSize {
			break
		}
		b := head[:min(sector, g.length-pos)]
		if err := storage.ReadFull(g.file, b, pos); err != nil {
			return nil, err
		}
		n, err := s.step(pos, b)
		if err != nil {
			return nil, err
		}
		pos += n
	}
	return s, nil
}

// step looks at what begins in one sector and returns how long it is.
func (s *rescan) step(pos int64, head []byte) (int64, error) {
	size := int64(binary.LittleEndian.Uint32(head[8:]))
	if size == 0 {
		return s.marker(head), nil
	}
	grain, ok := s.plausible(head, size)
	if !ok {
		return sector, nil
	}
	if s.spent += s.grain; s.spent > scanBudget*s.length+tryBytes {
		return 0, fmt.Errorf("%s: more of its sectors look like compressed grains than can be tried: %w", s.name, vdcore.ErrUnsupported)
	}
	_, err := s.unpack(nil, grain*s.grain, pos)
	switch {
	case errors.Is(err, vdcore.ErrCorrupt):
		s.broken++
		return sector, nil
	case err != nil:
		return 0, err
	}
	s.enter(grain, pos)
	n := (markerSize + size + sector - 1) / sector * sector
	s.end = pos + n
	return n, nil
}

// marker returns how long a metadata marker and what follows it are, if they are what
// tools write, else one sector: a sector of zeros is padding, or the end of the stream.
func (s *rescan) marker(head []byte) int64 {
	if len(head) < sector {
		return sector
	}
	count, kind := binary.LittleEndian.Uint64(head), binary.LittleEndian.Uint32(head[12:])
	var want int64
	switch kind {
	case markerTable:
		want = s.perTable * s.width
	case markerDirectory:
		want = (s.covered + s.span() - 1) / s.span() * s.width
	case markerFooter:
		want = sector
	}
	if want = (want + sector - 1) / sector; want == 0 || count != uint64(want) {
		return sector
	}
	return (1 + want) * sector
}

// plausible reports whether a record may be one of the disk's grains, and of which.
func (s *rescan) plausible(head []byte, size int64) (grain int64, ok bool) {
	lba := binary.LittleEndian.Uint64(head)
	if lba >= uint64(s.covered/sector) || lba%uint64(s.grain/sector) != 0 || size > 2*s.grain+packedSlack {
		return 0, false
	}
	return int64(lba) * sector / s.grain, true
}

// enter notes a grain. Of two records of one grain nobody knows the right one.
func (s *rescan) enter(grain, pos int64) {
	t, k := grain/s.perTable, grain%s.perTable
	if s.tables[t] == nil {
		s.tables[t] = make([]uint32, s.perTable)
	}
	if s.tables[t][k] != 0 || pos/sector > maxSector {
		s.again++
		return
	}
	s.tables[t][k] = uint32(pos / sector)
	s.found++
}
