package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	cowdHeaderSize = 2048
	cowdEntries    = 4096 // of a table, always
	cowdFlags      = 3
)

// cowdHeader is the header of an ESX copy-on-write extent. Positions and sizes
// are sectors. The parent's name it may hold is only shown: the descriptor has it.
type cowdHeader struct {
	Version    uint32 `json:"version"`
	Flags      uint32 `json:"flags"`
	Capacity   uint32 `json:"capacity_sectors"`
	GrainSize  uint32 `json:"grain_sectors"`
	Directory  uint32 `json:"directory_sector"`
	Entries    uint32 `json:"directory_entries"`
	NextFree   uint32 `json:"next_free_sector"`
	Generation uint32 `json:"generation"`
	// Origin is a root image's geometry, three integers, or a child's parent: its
	// name, as text.
	Origin          string `json:"geometry_or_parent"`
	Name            string `json:"name"`
	Description     string `json:"description"`
	SavedGeneration uint32 `json:"saved_generation"`
	Unclean         uint32 `json:"unclean_shutdown"`
}

// origin reads what either kind of image has there: a name is printable, and the
// cylinders of a root image are few.
func origin(b []byte) string {
	le := binary.LittleEndian
	if name := textOf(b); len(name) > 3 {
		return name
	}
	return fmt.Sprintf("%d/%d/%d", le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:]))
}

// textOf is text up to a NUL.
func textOf(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

func parseCOWD(b []byte) (*cowdHeader, error) {
	if len(b) < cowdHeaderSize {
		return nil, fmt.Errorf("truncated header: %d bytes, %d are needed: %w", len(b), cowdHeaderSize, vdcore.ErrCorrupt)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	h := &cowdHeader{
		Version: u32(4), Flags: u32(8), Capacity: u32(12), GrainSize: u32(16),
		Directory: u32(20), Entries: u32(24), NextFree: u32(28),
		Generation: u32(1060), Origin: origin(b[32:1056]), Name: textOf(b[1064:1124]), Description: textOf(b[1124:1636]),
		SavedGeneration: u32(1636), Unclean: u32(1648),
	}
	switch {
	case h.Version != 1:
		return nil, fmt.Errorf("unknown version %d of the COWD header: %w", h.Version, vdcore.ErrUnsupported)
	case h.Flags != cowdFlags:
		return nil, fmt.Errorf("unknown flags %#x in the COWD header: %w", h.Flags, vdcore.ErrUnsupported)
	case h.Capacity == 0:
		return nil, fmt.Errorf("capacity of 0 sectors: %w", vdcore.ErrCorrupt)
	}
	return h, checkGrain(uint64(h.GrainSize), 1, maxGrain)
}

// newCOWD makes a COWD file readable as the extent g.
func newCOWD(g grains, r *report) (*grains, error) {
	b := make([]byte, min(g.length, cowdHeaderSize))
	if err := storage.ReadFull(g.file, b, 0); err != nil {
		return nil, err
	}
	h, err := parseCOWD(b)
	if err != nil {
		return nil, err
	}
	g.head = h
	g.coder = sectorCoder{held: vdcore.Data}
	g.grain, g.perTable, g.width = int64(h.GrainSize)*sector, cowdEntries, 4
	g.step = uint64(h.GrainSize)
	g.cover(int64(h.Capacity)*sector, r)
	need := (int64(h.Capacity)*sector + g.span() - 1) / g.span()
	if int64(h.Entries) < need {
		return nil, fmt.Errorf("grain directory of %d entries, the capacity needs %d: %w", h.Entries, need, vdcore.ErrCorrupt)
	}
	if g.dir = directoryAt(uint64(h.Directory), need*4, g.length); g.dir < cowdHeaderSize {
		return nil, fmt.Errorf("grain directory past the end of the file or inside the header: %d bytes at sector %d, the file has %d: %w",
			need*4, h.Directory, g.length, vdcore.ErrCorrupt)
	}
	g.noteMeta(0, cowdHeaderSize)
	g.noteMeta(g.dir, need*4)
	if h.Unclean != 0 {
		r.note(fmt.Sprintf("%s: unclean shutdown: the file was open for writing when it was last used", g.name))
	}
	return &g, nil
}
