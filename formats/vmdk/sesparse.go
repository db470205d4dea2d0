package vmdk

import (
	"encoding/binary"
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	seVersion       = 0x0000000200000001
	seGrainSectors  = 8
	seTableSectors  = 64
	seVolatileMagic = 0xCAFECAFE
	seTableMark     = 0x10000000 // high half of a directory entry
)

// seHeader is the constant header of a space-efficient sparse extent. Positions
// and sizes are sectors; on disk it is one array of u64.
type seHeader struct {
	Version        uint64     `json:"version"`
	Capacity       uint64     `json:"capacity_sectors"`
	GrainSize      uint64     `json:"grain_sectors"`
	TableSize      uint64     `json:"grain_table_sectors"`
	Flags          uint64     `json:"flags"`
	Reserved       [4]uint64  `json:"reserved"`
	Volatile       seRegion   `json:"volatile_header"`
	JournalHeader  seRegion   `json:"journal_header"`
	Journal        seRegion   `json:"journal"`
	Directory      seRegion   `json:"grain_directory"`
	Tables         seRegion   `json:"grain_tables"`
	FreeBitmap     seRegion   `json:"free_bitmap"`
	BackMap        seRegion   `json:"back_map"`
	Grains         seRegion   `json:"grains"`
	VolatileFields seVolatile `json:"volatile"`
}

type seRegion struct {
	Sector  uint64 `json:"sector"`
	Sectors uint64 `json:"sectors"`
}

// seVolatile is the part that changes while the file is in use.
type seVolatile struct {
	FreeTable       uint64 `json:"free_grain_table"`
	NextTransaction uint64 `json:"next_transaction"`
	ReplayJournal   uint64 `json:"replay_journal"`
}

func parseSE(b []byte) (*seHeader, error) {
	if len(b) < sector {
		return nil, fmt.Errorf("truncated header: %d bytes, %d are needed: %w", len(b), sector, vdcore.ErrCorrupt)
	}
	h := &seHeader{}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	h.Version, h.Capacity, h.GrainSize, h.TableSize, h.Flags = u64(8), u64(16), u64(24), u64(32), u64(40)
	for i := range h.Reserved {
		h.Reserved[i] = u64(48 + 8*i)
	}
	for i, r := range []*seRegion{&h.Volatile, &h.JournalHeader, &h.Journal, &h.Directory, &h.Tables, &h.FreeBitmap, &h.BackMap, &h.Grains} {
		*r = seRegion{u64(80 + 16*i), u64(88 + 16*i)}
	}
	return h, h.check()
}

func (h *seHeader) check() error {
	switch {
	case h.Version != seVersion:
		return fmt.Errorf("unknown version %#x of the seSparse header: %w", h.Version, vdcore.ErrUnsupported)
	case h.Flags != 0 || h.Reserved != [4]uint64{}:
		return fmt.Errorf("unknown flags %#x or reserved fields %#x in the seSparse header: %w", h.Flags, h.Reserved, vdcore.ErrUnsupported)
	case h.GrainSize != seGrainSectors:
		return fmt.Errorf("grain size of %d sectors: seSparse has %d: %w", h.GrainSize, seGrainSectors, vdcore.ErrUnsupported)
	case h.TableSize != seTableSectors:
		return fmt.Errorf("grain tables of %d sectors: seSparse has %d: %w", h.TableSize, seTableSectors, vdcore.ErrUnsupported)
	case h.Capacity == 0 || h.Capacity > maxSectors:
		return fmt.Errorf("capacity of %d sectors: 1 to %d are expected: %w", h.Capacity, int64(maxSectors), vdcore.ErrCorrupt)
	}
	for _, r := range []seRegion{h.Volatile, h.Directory, h.Tables, h.Grains} {
		if r.Sector == 0 || r.Sector > maxSectors || r.Sectors > maxSectors {
			return fmt.Errorf("a region of %d sectors at sector %d: %w", r.Sectors, r.Sector, vdcore.ErrCorrupt)
		}
	}
	return nil
}

// seCoder reads 64-bit entries: a kind in the top bits and an index.
type seCoder struct {
	tables, grains int64 // where they begin in the file
	maxTable       uint64
	maxGrain       uint64
}

func (c seCoder) table(entry uint64) (int64, bool) {
	index := entry & 0xFFFFFFFF
	if entry>>32 != seTableMark || index >= c.maxTable {
		return 0, false
	}
	return c.tables + int64(index)*seTableSectors*sector, true
}

// grainOf: 0 free, 1 unmapped by the guest, 2 zeros, 3 held.
func (c seCoder) grainOf(entry uint64) (vdcore.Kind, int64) {
	switch entry >> 60 {
	case 0:
		if entry == 0 {
			return vdcore.Free, 0
		}
	case 1, 2:
		return vdcore.Zero, 0
	case 3:
		index := entry>>48&0xFFF | entry&0x0000FFFFFFFFFFFF<<12
		// One past the last still gets a place, past the end of the file.
		return vdcore.Data, c.grains + int64(min(index, c.maxGrain))*seGrainSectors*sector
	}
	return vdcore.Lost, 0
}

// newSE makes a seSparse file readable as the extent g.
func newSE(g grains, r *report) (*grains, error) {
	b := make([]byte, min(g.length, sector))
	if err := storage.ReadFull(g.file, b, 0); err != nil {
		return nil, err
	}
	h, err := parseSE(b)
	if err != nil {
		return nil, err
	}
	if err := h.readVolatile(g.file, g.length); err != nil {
		return nil, err
	}
	g.head = h
	g.grain, g.perTable, g.width = seGrainSectors*sector, seTableSectors*sector/8, 8
	g.cover(int64(h.Capacity)*sector, r)
	need := (int64(h.Capacity)*sector + g.span() - 1) / g.span()
	g.dir = directoryAt(h.Directory.Sector, need*8, g.length)
	if g.dir == 0 || h.Directory.Sectors < uint64(need*8+sector-1)/sector {
		return nil, fmt.Errorf("grain directory past the end of the file or too short: %d bytes at sector %d, it has %d sectors, the file %d bytes: %w",
			need*8, h.Directory.Sector, h.Directory.Sectors, g.length, vdcore.ErrCorrupt)
	}
	tables, grains := int64(h.Tables.Sector)*sector, int64(h.Grains.Sector)*sector
	g.coder = seCoder{
		tables: tables, grains: grains,
		maxTable: h.Tables.Sectors / seTableSectors,
		maxGrain: uint64(max(g.length-grains, 0)/g.grain) + 1,
	}
	g.noteMeta(0, sector)
	g.noteMeta(int64(h.Volatile.Sector)*sector, sector)
	g.noteMeta(g.dir, need*8)
	return &g, nil
}

// readVolatile refuses a file whose last changes are still in its journal.
func (h *seHeader) readVolatile(f storage.File, fileSize int64) error {
	pos := directoryAt(h.Volatile.Sector, sector, fileSize)
	if pos == 0 {
		return fmt.Errorf("volatile header at sector %d, past the end of the file at %d: %w", h.Volatile.Sector, fileSize, vdcore.ErrCorrupt)
	}
	b := make([]byte, 32)
	if err := storage.ReadFull(f, b, pos); err != nil {
		return err
	}
	u64 := binary.LittleEndian.Uint64
	if magic := u64(b); magic != seVolatileMagic {
		return fmt.Errorf("volatile header begins with %#x instead of %#x: %w", magic, seVolatileMagic, vdcore.ErrCorrupt)
	}
	h.VolatileFields = seVolatile{u64(b[8:]), u64(b[16:]), u64(b[24:])}
	if h.VolatileFields.ReplayJournal != 0 {
		return fmt.Errorf("the journal has to be replayed first; open and close the disk in ESXi: %w", vdcore.ErrUnsupported)
	}
	return nil
}
