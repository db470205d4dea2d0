package contents

import (
	"encoding/binary"
	"fmt"
)

var (
	le16 = binary.LittleEndian.Uint16
	le32 = binary.LittleEndian.Uint32
	le64 = binary.LittleEndian.Uint64
	be16 = binary.BigEndian.Uint16
)

// mbr is a sector with a table of four entries: the disk's first, or one of the chain
// of logical partitions.
type mbr struct {
	id      uint32
	entries [4]mbrEntry
}

type mbrEntry struct {
	flags, kind    byte
	first, sectors uint32
}

const (
	mbrSignature = 0xAA55
	mbrActive    = 0x80
	mbrGPT       = 0xEE
)

// parseMBR returns nil for a sector that is none. Flags other than "active" are boot
// code or text that happens to end in the signature.
func parseMBR(p []byte) *mbr {
	if p == nil || le16(p[510:]) != mbrSignature {
		return nil
	}
	m := &mbr{id: le32(p[440:])}
	for i := range m.entries {
		e := p[446+16*i:]
		m.entries[i] = mbrEntry{e[0], e[4], le32(e[8:]), le32(e[12:])}
		if e[0]&^mbrActive != 0 {
			return nil
		}
	}
	return m
}

func (e *mbrEntry) empty() bool { return e.kind == 0 || e.sectors == 0 }

func (e *mbrEntry) extended() bool {
	return !e.empty() && (e.kind == 0x05 || e.kind == 0x0F || e.kind == 0x85)
}

func (d *disk) readMBR() *mbr { return parseMBR(d.read(0, 512)) }

// protective reports whether the table says that there is a GPT.
func (m *mbr) protective() bool {
	for i := range m.entries {
		if m.entries[i].kind == mbrGPT {
			return true
		}
	}
	return false
}

func (m *mbr) empty() bool {
	for i := range m.entries {
		if !m.entries[i].empty() {
			return false
		}
	}
	return true
}

// bootSector reports whether the first sector is that of a file system. It ends as an
// MBR does, and what lies where the entries are is code.
func (d *disk) bootSector() bool {
	c := firstOf(d, fat, exfat, ntfs, bitlocker)
	return c != nil
}

// fromMBR reads a table in sectors of 512 bytes, or of 4096: nothing in it says which.
// It is the latter if only so the partitions hold what can be recognised.
func (d *disk) fromMBR(c *Contents, m *mbr) {
	*c = d.listMBR(m, 512)
	if d.recognised(c) {
		return
	}
	quiet := *d
	quiet.journal = &journal{}
	if large := quiet.listMBR(m, 4096); quiet.recognised(&large) {
		*c = large
		d.notes = append(quiet.notes, "taken to have sectors of 4096 bytes: only so its partitions hold something known")
	}
}

func (d *disk) recognised(c *Contents) bool {
	quiet := *d
	quiet.journal = &journal{}
	for i := range c.Partitions {
		if p := &c.Partitions[i]; !p.Extended && quiet.part(p).content() != nil {
			return true
		}
	}
	return false
}

func (d *disk) listMBR(m *mbr, sector int64) Contents {
	c := Contents{Table: "mbr", TableID: fmt.Sprintf("0x%08x", m.id), SectorSize: sector, Partitions: []Partition{}}
	for i, e := range m.entries {
		if !e.empty() {
			d.keep(&c, m.partition(i+1, e), uint64(e.first), uint64(e.sectors))
		}
	}
	l := logicals{disk: d, c: &c, id: m.id, next: 5, seen: map[uint64]bool{}}
	for _, e := range m.entries {
		if e.extended() {
			l.follow(e)
		}
	}
	d.noteOverlaps(c.Partitions)
	return c
}

func (m *mbr) partition(number int, e mbrEntry) Partition {
	p := Partition{
		Number: number, Type: mbrTypes[e.kind], TypeID: fmt.Sprintf("0x%02x", e.kind),
		Bootable: e.flags == mbrActive, Extended: e.extended(),
	}
	if m.id != 0 {
		p.UUID = fmt.Sprintf("%08x-%02x", m.id, number)
	}
	return p
}

// logicals are the partitions in extended ones: each has a sector with a table before
// it, whose first entry is the partition, from that sector on, and whose second one
// leads to the next such sector, from the beginning of the extended partition on.
type logicals struct {
	disk *disk
	c    *Contents
	id   uint32
	next int             // number
	seen map[uint64]bool // sectors the chain has come by
}

// maxEmpty is how many tables without a partition Linux goes through.
const maxEmpty = 100

func (l *logicals) follow(ext mbrEntry) {
	base, at, empty := uint64(ext.first), uint64(ext.first), 0
	for {
		switch {
		case l.seen[at]:
			l.disk.note("the chain of logical partitions loops")
			return
		case empty > maxEmpty || l.next > maxPartitions:
			l.disk.note("the chain of logical partitions is too long, and was left")
			return
		}
		l.seen[at] = true
		m := l.read(at)
		if m == nil {
			l.disk.note(fmt.Sprintf("the chain of logical partitions breaks off before partition %d", l.next))
			return
		}
		if empty++; l.add(m, ext, at) {
			empty = 0
		}
		link := m.link()
		if link == nil {
			return
		}
		at = base + uint64(link.first)
	}
}

func (l *logicals) read(at uint64) *mbr {
	if at > uint64(l.disk.size) { // far from overflowing below
		return nil
	}
	return parseMBR(l.disk.read(int64(at)*l.c.SectorSize, 512))
}

// add enters the partitions of one table, of which there should be one. The last two
// entries are not in use; Linux takes them if they lie in the extended partition.
func (l *logicals) add(m *mbr, ext mbrEntry, at uint64) (found bool) {
	for i, e := range m.entries {
		first := at + uint64(e.first)
		outside := first < uint64(ext.first) || first+uint64(e.sectors) > uint64(ext.first)+uint64(ext.sectors)
		if e.empty() || e.extended() || i >= 2 && outside || l.next > maxPartitions {
			continue
		}
		primary := mbr{id: l.id}
		l.disk.keep(l.c, primary.partition(l.next, e), first, uint64(e.sectors))
		l.next++
		found = true
	}
	return found
}

func (m *mbr) link() *mbrEntry {
	for i := range m.entries {
		if e := &m.entries[i]; e.extended() {
			return e
		}
	}
	return nil
}
