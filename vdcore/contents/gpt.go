package contents

import (
	"bytes"
	"hash/crc32"
)

// gpt is a sound copy of a table: both its checksums are right.
type gpt struct {
	sector    int64
	backup    bool
	id        string
	alternate uint64 // LBA of the other copy
	entrySize int64
	entries   []byte
}

// Of a header, bytes. maxEntries bounds the memory for the table; 16 KiB are usual.
const (
	gptHeader   = 92
	gptEntry    = 128
	maxEntries  = 1 << 20
	gptBootable = 1 << 2 // attribute: legacy BIOS bootable
)

// readGPT looks for a sound copy: the primary one, and where it is damaged the backup:
// where the primary one says that it is, in the last sector of the disk, and where the
// MBR says that the disk ends, in case it was made larger since. m may be nil.
func (d *disk) readGPT(m *mbr) *gpt {
	for _, sector := range []int64{512, 4096} {
		g, alternate := d.gptAt(1, sector)
		if g != nil {
			return g
		}
		places := []uint64{alternate, uint64(d.size/sector) - 1}
		if m != nil {
			places = append(places, m.gptEnd())
		}
		for _, lba := range places {
			if g, _ = d.gptAt(lba, sector); g != nil {
				g.backup = true
				return g
			}
		}
	}
	return nil
}

// gptEnd is the last sector of the disk as the protective entry has it.
func (m *mbr) gptEnd() uint64 {
	for _, e := range m.entries {
		if e.kind == mbrGPT {
			return uint64(e.first) + uint64(e.sectors) - 1
		}
	}
	return 0
}

// gptAt reads the copy whose header lies at lba. Where the header is sound and its
// entries are not, it is nil, and alternate still tells of the other copy.
func (d *disk) gptAt(lba uint64, sector int64) (g *gpt, alternate uint64) {
	if lba < 1 || lba > uint64(d.size/sector) {
		return nil, 0
	}
	h := d.read(int64(lba)*sector, 512)
	if h == nil || !soundHeader(h, lba) {
		return nil, 0
	}
	g = &gpt{sector: sector, id: guid(h[56:]), alternate: le64(h[32:]), entrySize: int64(le32(h[84:]))}
	at, count := le64(h[72:]), int64(le32(h[80:]))
	if g.entrySize < gptEntry || g.entrySize%8 != 0 || count == 0 || count > maxEntries/g.entrySize || at > uint64(d.size/sector) {
		return nil, g.alternate
	}
	g.entries = d.read(int64(at)*sector, count*g.entrySize)
	if g.entries == nil || crc32.ChecksumIEEE(g.entries) != le32(h[88:]) {
		return nil, g.alternate
	}
	return g, g.alternate
}

// soundHeader checks signature, size, checksum and position. A header may be longer
// than what is known of it; 512 bytes is what every sector has.
func soundHeader(h []byte, lba uint64) bool {
	size := le32(h[12:])
	if !bytes.HasPrefix(h, []byte("EFI PART")) || size < gptHeader || size > uint32(len(h)) || le64(h[24:]) != lba {
		return false
	}
	sum := le32(h[16:])
	clear(h[16:20])
	return crc32.ChecksumIEEE(h[:size]) == sum
}

func (d *disk) fromGPT(c *Contents, g *gpt, m *mbr) {
	c.Table, c.TableID, c.SectorSize = "gpt", g.id, g.sector
	if g.backup {
		d.note("the primary GPT is damaged; this is its backup copy")
	}
	switch {
	case m == nil:
		d.note("there is no MBR before the GPT: Linux and most tools will not see the partitions")
	case m.hybrid():
		d.note("the MBR is a hybrid one, with partitions of its own; the GPT counts")
	}
	for i := int64(0); (i+1)*g.entrySize <= int64(len(g.entries)); i++ {
		e := g.entries[i*g.entrySize:][:gptEntry]
		if allZero(e[:16]) {
			continue
		}
		first, last := le64(e[32:]), le64(e[40:])
		sectors := last - first + 1
		if last < first {
			sectors = 0
		}
		d.keep(c, gptPartition(int(i)+1, e), first, sectors)
	}
	d.noteOverlaps(c.Partitions)
}

func (m *mbr) hybrid() bool {
	for i := range m.entries {
		if e := &m.entries[i]; !e.empty() && e.kind != mbrGPT {
			return true
		}
	}
	return false
}

func gptPartition(number int, e []byte) Partition {
	id := guid(e)
	return Partition{
		Number: number, Type: gptTypes[id], TypeID: id, UUID: guid(e[16:]),
		Name: wide(e[56:]), Bootable: le64(e[48:])&gptBootable != 0,
	}
}
