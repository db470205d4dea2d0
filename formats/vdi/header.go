package vdi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore"
)

const (
	signature  = 0xBEDA107F
	sigOffset  = 64
	version0   = 0x00000002
	headerRead = 512 // covers both headers
	commentAt  = 84  // in version 1

	typeDynamic = 1
	typeFixed   = 2
	typeDiff    = 4

	flagZeroExpand = 1

	headerShort = 384 // bytes from offset 72 on, without LCHS
	headerLong  = 400
	mapV0       = 420 // file offset of the map in version 0.2

	minBlock = 128 << 10 // bytes; VirtualBox makes 512 KiB to 8 MiB and opens these
	maxBlock = 128 << 20 // bytes; VirtualBox's own limit at open
)

// header is the on-disk header of either version, offsets in file bytes.
type header struct {
	Banner       string    `json:"banner"`
	Version      uint32    `json:"version"`
	HeaderSize   uint32    `json:"header_size"`
	Type         uint32    `json:"type"`
	Flags        uint32    `json:"flags"`
	Comment      string    `json:"comment"`
	OffMap       uint64    `json:"off_blocks"`
	OffData      uint64    `json:"off_data"`
	PCHS         geometry  `json:"pchs"`
	Translation  uint32    `json:"translation"` // once a BIOS mode; unused
	DiskSize     uint64    `json:"disk_size"`
	BlockSize    uint32    `json:"block_size"`
	BlockExtra   uint32    `json:"block_extra"`
	Blocks       uint32    `json:"blocks"`
	Allocated    uint32    `json:"blocks_allocated"`
	UUID         uuid.UUID `json:"uuid_create"`
	ModUUID      uuid.UUID `json:"uuid_modify"`
	ParentUUID   uuid.UUID `json:"uuid_parent"`
	ParentModify uuid.UUID `json:"uuid_parent_modify"`
	LCHS         *geometry `json:"lchs,omitempty"`
}

type geometry struct {
	Cylinders  uint32 `json:"cylinders"`
	Heads      uint32 `json:"heads"`
	Sectors    uint32 `json:"sectors"`
	SectorSize uint32 `json:"sector_size"`
}

// fields reads little-endian integers one after the other; running out of bytes
// yields zeros, so callers check the length first.
type fields struct {
	b  []byte
	at int
}

func (f *fields) bytes(n int) []byte {
	out := make([]byte, n)
	if f.at < len(f.b) {
		copy(out, f.b[f.at:])
	}
	f.at += n
	return out
}

func (f *fields) u32() uint32 { return binary.LittleEndian.Uint32(f.bytes(4)) }
func (f *fields) u64() uint64 { return binary.LittleEndian.Uint64(f.bytes(8)) }

func (f *fields) text(n int) string {
	b := f.bytes(n)
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

func (f *fields) uuid() uuid.UUID { return swap(uuid.UUID(f.bytes(16))) }

// swap turns a UUID into the order Windows stores a GUID in, the first three fields
// little endian, and back.
func swap(b uuid.UUID) uuid.UUID {
	return uuid.UUID{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

func (f *fields) geometry() geometry {
	return geometry{f.u32(), f.u32(), f.u32(), f.u32()}
}

// parseHeader reads the header from the first bytes of a file and checks that it
// makes sense on its own.
func parseHeader(b []byte) (*header, error) {
	f := &fields{b: b}
	h := &header{Banner: strings.TrimSpace(f.text(64))}
	if len(b) < sigOffset+8 {
		return nil, vdcore.Flaw("header-cut", fmt.Errorf("the file ends inside the header: %w", vdcore.ErrCorrupt))
	}
	if sig := f.u32(); sig != signature {
		return nil, fmt.Errorf("no VDI signature at byte 64: %w", vdcore.ErrFormat)
	}
	h.Version = f.u32()
	need := 0
	switch {
	case h.Version == version0:
		need = mapV0
		h.readV0(f)
	case h.Version>>16 == 1:
		need = 72 + headerShort
		h.readV1(f)
	default:
		return nil, vdcore.Flaw("header-version", fmt.Errorf("VDI version %d.%d is unknown (0.2 and 1.x are read): %w", h.Version>>16, h.Version&0xFFFF, vdcore.ErrUnsupported))
	}
	if len(b) < need {
		return nil, vdcore.Flaw("header-cut", fmt.Errorf("the file ends inside the header, after %d of %d bytes: %w", len(b), need, vdcore.ErrCorrupt))
	}
	return h, h.check()
}

func (h *header) readV0(f *fields) {
	h.HeaderSize = mapV0 - 72
	h.Type, h.Flags, h.Comment = f.u32(), f.u32(), f.text(256)
	h.PCHS = f.geometry()
	h.DiskSize = f.u64()
	h.BlockSize, h.Blocks, h.Allocated = f.u32(), f.u32(), f.u32()
	h.UUID, h.ModUUID, h.ParentUUID = f.uuid(), f.uuid(), f.uuid()
	h.OffMap = mapV0
	h.OffData = mapV0 + 4*uint64(h.Blocks)
}

func (h *header) readV1(f *fields) {
	h.HeaderSize = f.u32()
	h.Type, h.Flags, h.Comment = f.u32(), f.u32(), f.text(256)
	h.OffMap, h.OffData = uint64(f.u32()), uint64(f.u32())
	h.PCHS = f.geometry()
	h.Translation = f.u32()
	h.DiskSize = f.u64()
	h.BlockSize, h.BlockExtra, h.Blocks, h.Allocated = f.u32(), f.u32(), f.u32(), f.u32()
	h.UUID, h.ModUUID, h.ParentUUID, h.ParentModify = f.uuid(), f.uuid(), f.uuid(), f.uuid()
	if h.HeaderSize >= headerLong && h.OffMap >= 72+headerLong {
		g := f.geometry()
		h.LCHS = &g
	}
}

// check is everything that can be said without the file's size.
func (h *header) check() error {
	bad := func(code, format string, args ...any) error {
		return vdcore.Flaw(code, fmt.Errorf(format+": %w", append(args, vdcore.ErrCorrupt)...))
	}
	span := uint64(h.BlockSize) * uint64(h.Blocks)
	switch {
	case h.HeaderSize < headerShort && h.Version != version0:
		return bad("header-size", "header size %d is less than %d", h.HeaderSize, headerShort)
	case h.Type != typeDynamic && h.Type != typeFixed && h.Type != typeDiff:
		return vdcore.Flaw("image-type", fmt.Errorf("unknown image type %d (1 dynamic, 2 fixed and 4 differencing are read): %w", h.Type, vdcore.ErrUnsupported))
	case h.Flags&^flagZeroExpand != 0:
		return vdcore.Flaw("image-flags", fmt.Errorf("unknown image flags %#x: %w", h.Flags, vdcore.ErrUnsupported))
	case h.BlockSize == 0 || h.BlockSize&(h.BlockSize-1) != 0 || h.BlockSize < minBlock || h.BlockSize > maxBlock:
		return bad("block-size", "block size %d is not a power of two from %d to %d", h.BlockSize, minBlock, maxBlock)
	case h.BlockExtra&(h.BlockExtra-1) != 0 || h.BlockExtra > maxBlock:
		return bad("block-extra", "extra data of %d bytes before each block is not a power of two up to %d", h.BlockExtra, maxBlock)
	case h.DiskSize < 512:
		return bad("disk-empty", "disk size %d is less than a sector", h.DiskSize)
	case h.Blocks == 0 || h.DiskSize > span:
		return bad("block-map-size", "block count %d does not match the disk size: %d blocks of %d bytes hold less than %d", h.Blocks, h.Blocks, h.BlockSize, h.DiskSize)
	case h.OffMap < h.headerEnd():
		return bad("map-in-header", "the block map at %d overlaps the header, which ends at %d", h.OffMap, h.headerEnd())
	case h.OffData < h.OffMap+4*uint64(h.Blocks):
		return bad("data-in-map", "the data area at %d overlaps the block map, which ends at %d", h.OffData, h.OffMap+4*uint64(h.Blocks))
	case h.UUID == uuid.Nil:
		return bad("image-uuid", "the image UUID is null")
	}
	return nil
}

// headerEnd is where the map may begin: VirtualBox asks for the short header only.
func (h *header) headerEnd() uint64 {
	if h.Version == version0 {
		return mapV0
	}
	return 72 + headerShort
}

// countAt is where the count of allocated blocks lies in the file. The image UUID
// and the modification UUID follow it in either version.
func (h *header) countAt() int64 {
	if h.Version == version0 {
		return 368
	}
	return 388
}

// slotSize is the distance from one block to the next in the file, bytes.
func (h *header) slotSize() int64 { return int64(h.BlockExtra) + int64(h.BlockSize) }

// capacity is the disk size VirtualBox shows: whole sectors.
func (h *header) capacity() int64 { return int64(h.DiskSize &^ 511) }

// need is how many blocks the disk has.
func (h *header) need() int64 {
	return (h.capacity() + int64(h.BlockSize) - 1) / int64(h.BlockSize)
}

// warnings are header fields that look wrong and do no harm.
func (h *header) warnings() []string {
	var w []string
	if h.PCHS.SectorSize != 512 || h.LCHS != nil && h.LCHS.SectorSize != 512 {
		w = append(w, "the geometry names a sector size other than 512 bytes; sectors of 512 bytes are assumed")
	}
	if need := (h.DiskSize + uint64(h.BlockSize) - 1) / uint64(h.BlockSize); uint64(h.Blocks) > need {
		w = append(w, fmt.Sprintf("the block count %d is more than the disk size needs (%d); the rest is ignored", h.Blocks, need))
	}
	if h.Allocated > h.Blocks {
		w = append(w, fmt.Sprintf("the header counts %d blocks allocated of %d", h.Allocated, h.Blocks))
	}
	if h.DiskSize%512 != 0 {
		w = append(w, fmt.Sprintf("the disk size %d is not a multiple of 512 and is rounded down, as VirtualBox does", h.DiskSize))
	}
	return w
}

// info is what the header says in the core's words.
func (h *header) info() vdcore.Info {
	i := vdcore.Info{
		Format:    "vdi",
		Variant:   map[uint32]string{typeDynamic: "dynamic", typeFixed: "fixed", typeDiff: "differencing"}[h.Type],
		Version:   fmt.Sprintf("%d.%d", h.Version>>16, h.Version&0xFFFF),
		Capacity:  h.capacity(),
		BlockSize: int64(h.BlockSize),
		Comment:   h.Comment,
		Identity:  vdcore.Identity{UUID: h.UUID, ModUUID: h.ModUUID},
		PCHS:      h.PCHS.core(),
	}
	if h.LCHS != nil {
		i.LCHS = h.LCHS.core()
	}
	if h.ParentUUID != uuid.Nil || h.Type == typeDiff {
		i.Variant = "differencing"
		i.Parent = &vdcore.ParentRef{UUID: h.ParentUUID, ModUUID: h.ParentModify, CID: vdcore.NoParentCID}
	}
	if h.Type == typeFixed {
		i.Flags = append(i.Flags, "fixed")
	}
	if i.Parent != nil {
		i.Flags = append(i.Flags, "differencing")
	}
	if h.Flags&flagZeroExpand != 0 {
		i.Flags = append(i.Flags, "zero-expand")
	}
	i.Warnings = h.warnings()
	return i
}

// core is the geometry as stored, plausible or not: VirtualBox itself has written
// nonsense after a resize.
func (g geometry) core() vdcore.Geometry {
	return vdcore.Geometry{Cylinders: g.Cylinders, Heads: g.Heads, Sectors: g.Sectors}
}
