package vdi

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// planHeader puts the header's fields right, all of them in one write inside the
// first sector. The count may only go down when no entry leads further.
func (m *mender) planHeader() error {
	old := make([]byte, min(headerRead, int64(m.header.OffMap)))
	if err := storage.ReadFull(m.file, old, 0); err != nil {
		return err
	}
	b := bytes.Clone(old)
	m.mendGeometry(b)
	m.mendSize(b)
	if err := m.mendModUUID(b); err != nil {
		return err
	}
	m.mendCount(b)
	if !bytes.Equal(b, old) {
		m.step(vdcore.Patch{Data: b})
	}
	return nil
}

// odd notes a header field that nothing of the content depends on.
func (m *mender) odd(code, does, format string, args ...any) {
	m.plan.Mends = append(m.plan.Mends, vdcore.Mend{
		Finding: vdcore.Finding{Code: code, Odd: true, Text: fmt.Sprintf(format, args...)}, Does: does})
}

// mendGeometry: VirtualBox 7.2 writes nonsense as LCHS when it resizes, and does not
// open an image whose LCHS names another sector size.
func (m *mender) mendGeometry(b []byte) {
	le := binary.LittleEndian
	if size := m.header.PCHS.SectorSize; size != 512 {
		m.odd("pchs-sector-size", "it becomes 512", "the physical geometry has sectors of %d bytes", size)
		at := 360
		if m.header.Version == version0 {
			at = 348
		}
		le.PutUint32(b[at:], 512)
	}
	g := m.header.LCHS
	if g == nil {
		return
	}
	if g.SectorSize != 512 {
		m.plan.Mends = append(m.plan.Mends, vdcore.Mend{
			Finding: vdcore.Finding{Code: "lchs-sector-size", Text: fmt.Sprintf("the logical geometry has sectors of %d bytes; VirtualBox refuses the image", g.SectorSize)},
			Does:    "it becomes 512"})
		le.PutUint32(b[468:], 512)
	}
	if !g.plausible() {
		m.odd("geometry", "it becomes unset", "the logical geometry %d/%d/%d makes no sense", g.Cylinders, g.Heads, g.Sectors)
		clear(b[456:468])
	}
}

// plausible: unset, or what a BIOS can tell.
func (g geometry) plausible() bool {
	unset := g.Cylinders == 0 && g.Heads == 0 && g.Sectors == 0
	return unset || g.Cylinders != 0 && g.Heads != 0 && g.Heads <= 255 && g.Sectors != 0 && g.Sectors <= 63
}

func (m *mender) mendSize(b []byte) {
	h := m.header
	if h.DiskSize%512 != 0 {
		at := 368
		if h.Version == version0 {
			at = 352
		}
		m.odd("disk-size", "it is rounded down, as VirtualBox does", "the disk size %d is no multiple of 512", h.DiskSize)
		binary.LittleEndian.PutUint64(b[at:], uint64(h.capacity()))
	}
	if need := h.need(); int64(h.Blocks) > need && h.Version != version0 && !m.fixed() && m.used <= need {
		m.odd("block-excess", "the count is set right; what the entries behind led to is given up", "the block map has %d entries for a disk of %d blocks", h.Blocks, need)
		binary.LittleEndian.PutUint32(b[384:], uint32(need))
	}
}

// mendModUUID: VirtualBox does not open an image without one.
func (m *mender) mendModUUID(b []byte) error {
	if m.header.ModUUID != uuid.Nil {
		return nil
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	id = swap(id)
	copy(b[m.header.countAt()+20:], id[:])
	m.plan.Mends = append(m.plan.Mends, vdcore.Mend{
		Finding: vdcore.Finding{Code: "modification-uuid", Text: "the modification UUID is null; VirtualBox refuses the image"},
		Does:    "it gets a new one"})
	return nil
}

// mendCount sets the count of blocks right. A fixed image counts all of them.
func (m *mender) mendCount(b []byte) {
	count, want := int64(m.header.Allocated), m.used
	if m.fixed() {
		want = int64(m.header.Blocks)
		if count >= m.end && count <= want {
			return
		}
	}
	f := vdcore.Finding{Code: codeCount, Bytes: max(m.end-count, 0) * m.header.slotSize()}
	switch {
	case count < m.end:
		f.Text = fmt.Sprintf("the header counts %d slots, but slot %d is in use: VirtualBox would write over it", count, m.end-1)
	case count > int64(m.header.Blocks):
		f.Text = fmt.Sprintf("the header counts %d slots, and the disk has %d blocks: VirtualBox refuses the image", count, m.header.Blocks)
	case count > max(m.end, m.slotsInFile()):
		n := count - max(m.end, m.slotsInFile())
		f = vdcore.Finding{Code: "counted-slot", Leak: true, Bytes: n * m.header.slotSize(),
			Text: fmt.Sprintf("the header counts %d slots that are neither in use nor in the file", n)}
	}
	if f.Text != "" {
		m.plan.Mends = append(m.plan.Mends, vdcore.Mend{Finding: f, Does: fmt.Sprintf("the count becomes %d", want)})
	}
	if want != count {
		binary.LittleEndian.PutUint32(b[m.header.countAt():], uint32(want))
	}
}
