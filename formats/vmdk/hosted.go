package vmdk

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"vdfs/vdcore"
)

const (
	hostedHeaderSize = 512
	flagsAt          = 8
	uncleanAt        = 72         // the byte that says the file is open for writing
	inFooter         = ^uint64(0) // as position of the directory

	flagNewlines = 0x1 // the check characters are valid
	flagSpare    = 0x2 // there is a redundant directory
	flagZeroed   = 0x4 // entry 1 means zeros
	flagPacked   = 0x10000
	flagMarkers  = 0x20000
	flagsKnown   = flagNewlines | flagSpare | flagZeroed | flagPacked | flagMarkers

	newlineCheck = "\n \r\n" // what a transfer as text would change

	deflate = 1

	minGrain       = 8       // sectors
	maxGrain       = 1 << 21 // sectors: 1 GiB, QEMU's limit
	maxPackedGrain = 1 << 14 // sectors: 8 MiB, since one is unpacked in memory
	minEntries     = 128     // of a table: VirtualBox's limit
	maxEntries     = 4096
)

// hostedHeader is the header of a hosted sparse extent. Positions and sizes are
// sectors.
type hostedHeader struct {
	Version          uint32 `json:"version"`
	Flags            uint32 `json:"flags"`
	Capacity         uint64 `json:"capacity_sectors"`
	GrainSize        uint64 `json:"grain_sectors"`
	DescriptorOffset uint64 `json:"descriptor_sector"`
	DescriptorSize   uint64 `json:"descriptor_sectors"`
	EntriesPerTable  uint32 `json:"entries_per_table"`
	SpareDirectory   uint64 `json:"redundant_directory_sector"`
	Directory        uint64 `json:"directory_sector"`
	Overhead         uint64 `json:"overhead_sectors"`
	Unclean          uint8  `json:"unclean_shutdown"`
	Newlines         string `json:"newline_check"`
	Compression      uint16 `json:"compression"`
}

// parseHosted takes the fields apart and refuses values nothing can be read by.
func parseHosted(b []byte) (*hostedHeader, error) {
	if len(b) < hostedHeaderSize {
		return nil, vdcore.Flaw("header-cut", fmt.Errorf("truncated header: %d bytes, %d are needed: %w", len(b), hostedHeaderSize, vdcore.ErrCorrupt))
	}
	le := binary.LittleEndian
	h := &hostedHeader{
		Version:          le.Uint32(b[4:]),
		Flags:            le.Uint32(b[flagsAt:]),
		Capacity:         le.Uint64(b[12:]),
		GrainSize:        le.Uint64(b[20:]),
		DescriptorOffset: le.Uint64(b[28:]),
		DescriptorSize:   le.Uint64(b[36:]),
		EntriesPerTable:  le.Uint32(b[44:]),
		SpareDirectory:   le.Uint64(b[48:]),
		Directory:        le.Uint64(b[56:]),
		Overhead:         le.Uint64(b[64:]),
		Unclean:          b[uncleanAt],
		Newlines:         string(b[73:77]),
		Compression:      le.Uint16(b[77:]),
	}
	return h, h.check()
}

// check holds for every hosted header, whatever it is used for.
func (h *hostedHeader) check() error {
	switch {
	case h.Version < 1 || h.Version > 3:
		return vdcore.Flaw("header-version", fmt.Errorf("unknown version %d of the sparse header: %w", h.Version, vdcore.ErrUnsupported))
	case h.Flags&flagNewlines != 0 && h.Newlines != newlineCheck:
		return vdcore.Flaw("newline-check", fmt.Errorf("the newline check bytes are %q; the file was transferred as text: %w", h.Newlines, vdcore.ErrCorrupt))
	case h.Flags&^flagsKnown != 0:
		return vdcore.Flaw("header-flags", fmt.Errorf("unknown flags %#x in the sparse header: %w", h.Flags&^flagsKnown, vdcore.ErrUnsupported))
	}
	return h.checkCompression()
}

func (h *hostedHeader) checkCompression() error {
	packed := h.Flags&flagPacked != 0
	switch {
	case h.Compression > deflate:
		return vdcore.Flaw("compression", fmt.Errorf("unknown compression %d: %w", h.Compression, vdcore.ErrUnsupported))
	case packed != (h.Compression == deflate):
		return vdcore.Flaw("compression", fmt.Errorf("compression %d contradicts flags %#x: %w", h.Compression, h.Flags, vdcore.ErrCorrupt))
	case packed != (h.Flags&flagMarkers != 0):
		return vdcore.Flaw("compression", fmt.Errorf("flags %#x: compression and markers only come together: %w", h.Flags, vdcore.ErrUnsupported))
	}
	return nil
}

// checkTables holds for a header whose tables are to be read.
func (h *hostedHeader) checkTables() error {
	if err := checkGrain(h.GrainSize, minGrain, maxGrain); err != nil {
		return err
	}
	n := h.EntriesPerTable
	switch {
	case h.Flags&flagPacked != 0 && h.GrainSize > maxPackedGrain:
		return vdcore.Flaw("grain-size", fmt.Errorf("grain size too large: %d sectors, compressed: %w", h.GrainSize, vdcore.ErrUnsupported))
	case n < minEntries || n > maxEntries || bits.OnesCount32(n) != 1:
		return vdcore.Flaw("table-entries", fmt.Errorf("%d entries per grain table: a power of two from %d to %d is expected: %w", n, minEntries, maxEntries, vdcore.ErrCorrupt))
	case h.Capacity == 0 || h.Capacity > maxSectors:
		return vdcore.Flaw("capacity", fmt.Errorf("capacity of %d sectors: 1 to %d are expected: %w", h.Capacity, int64(maxSectors), vdcore.ErrCorrupt))
	case h.entries() > maxTables:
		return vdcore.Flaw("capacity", fmt.Errorf("capacity of %d sectors needs %d grain tables, over the limit of %d: %w", h.Capacity, h.entries(), maxTables, vdcore.ErrCorrupt))
	}
	return nil
}

func checkGrain(n uint64, least, most uint64) error {
	switch {
	case n == 0:
		return vdcore.Flaw("grain-size", fmt.Errorf("grain size 0: %w", vdcore.ErrCorrupt))
	case bits.OnesCount64(n) != 1:
		return vdcore.Flaw("grain-size", fmt.Errorf("grain size not a power of two: %d sectors: %w", n, vdcore.ErrCorrupt))
	case n < least:
		return vdcore.Flaw("grain-size", fmt.Errorf("grain size too small: %d sectors: %w", n, vdcore.ErrCorrupt))
	case n > most:
		return vdcore.Flaw("grain-size", fmt.Errorf("grain size too large: %d sectors: %w", n, vdcore.ErrCorrupt))
	}
	return nil
}

// entries is how many directory entries the capacity needs.
func (h *hostedHeader) entries() uint64 {
	span := h.GrainSize * uint64(h.EntriesPerTable)
	return (h.Capacity + span - 1) / span
}

// overhead is where the header says that its metadata end, bytes, at most limit.
func (h *hostedHeader) overhead(limit int64) int64 {
	return int64(min(h.Overhead, uint64(limit)/sector)) * sector
}

// descriptorArea is where the embedded descriptor lies; n is 0 without one.
func (h *hostedHeader) descriptorArea(fileSize int64) (pos, n int64, err error) {
	if h.DescriptorOffset == 0 || h.DescriptorSize == 0 {
		return 0, 0, nil
	}
	end := uint64(fileSize) / sector
	if h.DescriptorSize > end || h.DescriptorOffset > end-h.DescriptorSize {
		return 0, 0, vdcore.Flaw("descriptor-outside", fmt.Errorf("descriptor size %d sectors at sector %d: past the end of the file at %d: %w",
			h.DescriptorSize, h.DescriptorOffset, end, vdcore.ErrCorrupt))
	}
	return int64(h.DescriptorOffset) * sector, int64(h.DescriptorSize) * sector, nil
}

// directories picks the directory to read and a spare one. A directory that is
// not all in the file is none.
func (h *hostedHeader) directories(fileSize int64) (dir, spare int64, err error) {
	n := int64(h.entries()) * 4
	dir = directoryAt(h.Directory, n, fileSize)
	if h.Flags&flagSpare != 0 {
		spare = directoryAt(h.SpareDirectory, n, fileSize)
	}
	switch {
	case dir != 0:
		return dir, spare, nil
	case spare != 0:
		return spare, 0, nil
	}
	return 0, 0, vdcore.Flaw(codeDirectory, fmt.Errorf("grain directory past the end of the file or missing: %d bytes at sector %d, redundant at %d, the file has %d bytes: %w",
		n, h.Directory, h.SpareDirectory, fileSize, vdcore.ErrCorrupt))
}

// directoryAt is the position of n bytes at a sector, or 0 when they are not all
// in the file.
func directoryAt(at uint64, n, fileSize int64) int64 {
	if at == 0 || n > fileSize || at > uint64(fileSize-n)/sector {
		return 0
	}
	return int64(at) * sector
}

// sectorCoder reads 32-bit sector numbers, in hosted sparse and COWD files.
type sectorCoder struct {
	zeroed bool        // entry 1 means zeros
	held   vdcore.Kind // of what any other entry leads to
}

func (sectorCoder) table(entry uint64) (int64, bool) { return int64(entry) * sector, true }

func (c sectorCoder) grainOf(entry uint64) (vdcore.Kind, int64) {
	switch {
	case entry == 0:
		return vdcore.Free, 0
	case entry == 1 && c.zeroed:
		return vdcore.Zero, 0
	}
	return c.held, int64(entry) * sector
}

// newHosted makes a hosted sparse file readable as the extent g.
func newHosted(g grains, own *hostedHeader, r *report) (*grains, error) {
	h, err := own.footer(g.file, g.length)
	if err != nil {
		return nil, err
	}
	if err := h.checkTables(); err != nil {
		return nil, err
	}
	if g.dir, g.spare, err = h.directories(g.length); err != nil {
		return nil, err
	}
	g.head = h
	g.grain, g.perTable, g.width = int64(h.GrainSize)*sector, int64(h.EntriesPerTable), 4
	g.packed, g.footed = h.Flags&flagPacked != 0, h != own
	g.coder = sectorCoder{zeroed: h.Flags&flagZeroed != 0, held: vdcore.Data}
	if g.packed {
		g.coder = sectorCoder{zeroed: h.Flags&flagZeroed != 0, held: vdcore.Packed}
	}
	if !g.packed {
		g.step = h.GrainSize
	}
	g.cover(int64(h.Capacity)*sector, r)
	g.noteMeta(0, hostedHeaderSize)
	pos, n, err := own.descriptorArea(g.length)
	if err != nil {
		return nil, err
	}
	g.noteMeta(pos, n)
	g.noteMeta(g.dir, int64(h.entries())*4)
	if g.spare != 0 {
		g.noteMeta(g.spare, int64(h.entries())*4)
	}
	h.remarks(&g, r)
	return &g, nil
}

// remarks are the warnings a usable header deserves.
func (h *hostedHeader) remarks(g *grains, r *report) {
	if g.spare == 0 && g.dir != directoryAt(h.Directory, int64(h.entries())*4, g.length) {
		r.warn(fmt.Sprintf("%s: grain directory past the end of the file; the redundant one is used", g.name))
	}
	if h.Unclean != 0 {
		r.note(fmt.Sprintf("%s: unclean shutdown: the file was open for writing when it was last used", g.name))
	}
}

// cover sets how much of the extent the tables reach, the header's capacity in
// whole grains. Tools round the capacity up; a much larger one is odd.
func (g *grains) cover(capacity int64, r *report) {
	rounded := (capacity + g.grain - 1) / g.grain * g.grain
	g.covered = min(g.size, rounded)
	if capacity-g.size >= max(g.grain, 64<<10) {
		r.warn(fmt.Sprintf("%s: the header's capacity is %d bytes, the extent line's %d; the line counts", g.name, capacity, g.size))
	}
}
