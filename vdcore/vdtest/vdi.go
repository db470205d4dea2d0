package vdtest

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/google/uuid"
)

// VDI describes a VDI image to write. It follows the format notes (section 1) and
// shares no code with formats/vdi.
type VDI struct {
	Capacity   int64
	BlockSize  int64
	BlockExtra int64
	ID, Mod    uuid.UUID
	Parent     uuid.UUID // uuid.Nil: a base image
	ParentMod  uuid.UUID
	// Map holds one value for each block: VDIFree, VDIZero, or a slot.
	Map []uint32
	// Slots are the blocks' bytes in slot order.
	Slots [][]byte
}

const (
	VDIFree = 0xFFFFFFFF
	VDIZero = 0xFFFFFFFE

	vdiMapAt = 512
)

// dataAt is where slot 0 begins: VirtualBox rounds up to 1 MiB, nothing asks for it.
func (v *VDI) dataAt() int64 { return (vdiMapAt + 4*int64(len(v.Map)) + 511) &^ 511 }

// Bytes is the image file.
func (v *VDI) Bytes() []byte {
	b := make([]byte, v.dataAt()+int64(len(v.Slots))*(v.BlockSize+v.BlockExtra))
	le := binary.LittleEndian
	copy(b, "<<< test image >>>\n")
	le.PutUint32(b[64:], 0xBEDA107F)
	le.PutUint32(b[68:], 0x00010001)
	le.PutUint32(b[72:], 400)
	kind := uint32(1)
	if v.Parent != uuid.Nil {
		kind = 4
	}
	le.PutUint32(b[76:], kind)
	le.PutUint32(b[340:], vdiMapAt)
	le.PutUint32(b[344:], uint32(v.dataAt()))
	le.PutUint32(b[360:], 512)
	le.PutUint64(b[368:], uint64(v.Capacity))
	le.PutUint32(b[376:], uint32(v.BlockSize))
	le.PutUint32(b[380:], uint32(v.BlockExtra))
	le.PutUint32(b[384:], uint32(len(v.Map)))
	le.PutUint32(b[388:], uint32(len(v.Slots)))
	for i, id := range []uuid.UUID{v.ID, v.Mod, v.Parent, v.ParentMod} {
		putGUID(b[392+16*i:], id)
	}
	le.PutUint32(b[468:], 512)
	for i, e := range v.Map {
		le.PutUint32(b[vdiMapAt+4*i:], e)
	}
	for i, s := range v.Slots {
		copy(b[v.dataAt()+int64(i)*(v.BlockSize+v.BlockExtra)+v.BlockExtra:], s)
	}
	return b
}

// putGUID stores a UUID with its first three fields little endian.
func putGUID(b []byte, id uuid.UUID) {
	for i, from := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		b[i] = id[from]
	}
}

// RandomVDI makes a base image, or a child of parent, with a random map, and
// applies what it holds to flat, the content of the parent so far. It returns the
// content seen from the new image.
func RandomVDI(r *rand.Rand, parent *VDI, flat []byte, capacity, block int64) (*VDI, []byte) {
	v := &VDI{Capacity: capacity, BlockSize: block, ID: RandomUUID(r), Mod: RandomUUID(r)}
	if r.IntN(4) == 0 {
		v.BlockExtra = 512
	}
	if parent != nil {
		v.Parent, v.ParentMod = parent.ID, parent.Mod
	}
	seen := make([]byte, capacity)
	copy(seen, flat)
	v.Map = make([]uint32, (capacity+block-1)/block)
	for i := range v.Map {
		part := seen[int64(i)*block : min(int64(i+1)*block, capacity)]
		switch r.IntN(4) {
		case 0:
			v.Map[i] = VDIZero
			clear(part)
		case 1:
			data := make([]byte, block)
			for k := 0; k < len(data); k += 8 {
				binary.LittleEndian.PutUint64(data[k:], r.Uint64())
			}
			v.Map[i] = uint32(len(v.Slots))
			v.Slots = append(v.Slots, data)
			copy(part, data)
		default:
			v.Map[i] = VDIFree
		}
	}
	return v, seen
}

// RandomUUID makes a UUID from a seeded source.
func RandomUUID(r *rand.Rand) uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}
