package contents

import (
	"fmt"
	"io"
	"slices"
)

// Contents is what lies on a disk. Positions and sizes are bytes.
type Contents struct {
	// Table is "gpt", "mbr", or "" where there is none; TableID is the GUID, or the
	// number of the MBR as in "0x1a2b3c4d".
	Table   string `json:"table"`
	TableID string `json:"table_id,omitempty"`
	// SectorSize is what the table counts in: 512 or 4096. Without a table it is 512.
	SectorSize int64       `json:"sector_size"`
	Partitions []Partition `json:"partitions"`
	// Content is what a disk without a table holds; nil where nothing is known.
	Content *Content `json:"content,omitempty"`
	// Notes are what is odd, damaged or missing, one sentence each.
	Notes []string `json:"notes,omitempty"`
}

// Partition is one entry of a table that lies on the disk.
type Partition struct {
	Number   int      `json:"number"` // as Linux names it
	Start    int64    `json:"start"`
	Size     int64    `json:"size"`              // as far as the disk goes
	Type     string   `json:"type"`              // a name for TypeID; "" where none is known
	TypeID   string   `json:"type_id"`           // a GUID, or a number as in "0x83"
	Name     string   `json:"name,omitempty"`    // of a GPT
	UUID     string   `json:"uuid,omitempty"`    // PARTUUID
	Bootable bool     `json:"bootable"`          // flagged for a BIOS to boot from
	Extended bool     `json:"extended"`          // holds logical partitions, and nothing itself
	Content  *Content `json:"content,omitempty"` // nil where nothing is known
}

// Content is a file system or a container, by its signature.
type Content struct {
	Type  string `json:"type"` // as blkid calls it: "ext4", "crypto_LUKS", …
	Label string `json:"label,omitempty"`
	UUID  string `json:"uuid,omitempty"`
}

// maxPartitions is how many Linux has numbers for (DISK_MAX_PARTS, the disk being one).
const maxPartitions = 255

// Read says what lies on a disk of size bytes.
func Read(r io.ReaderAt, size int64) Contents {
	d := newDisk(r, size)
	c := d.table()
	d.addContents(&c)
	c.Notes = append(c.Notes, d.notes...)
	return c
}

// Table is Read without the signatures: it looks at fewer places.
func Table(r io.ReaderAt, size int64) Contents {
	d := newDisk(r, size)
	c := d.table()
	c.Notes = append(c.Notes, d.notes...)
	return c
}

// addContents fills in signatures.
func (d *disk) addContents(c *Contents) {
	for i := range c.Partitions {
		if p := &c.Partitions[i]; !p.Extended {
			p.Content = d.part(p).content()
		}
	}
	if len(c.Partitions) > 0 {
		return
	}
	if c.Content = d.content(); c.Content == nil && c.Table == "" {
		d.note("nothing on it is known: no partition table, no file system")
	}
}

// table finds the partition table.
func (d *disk) table() Contents {
	c := Contents{SectorSize: 512, Partitions: []Partition{}}
	m := d.readMBR()
	if m == nil || m.protective() {
		switch g := d.readGPT(m); {
		case g == nil:
		case m == nil && g.backup && d.content() != nil:
			d.note("at the end there is the backup of a GPT, of which the beginning was written over: what the disk holds now counts")
		default:
			d.fromGPT(&c, g, m)
			return c
		}
	}
	switch {
	case m == nil:
		d.note("no partition table")
	case m.protective():
		c.Table = "gpt"
		d.note("the MBR says that there is a GPT, and no sound copy of it was found; its partitions are not shown")
	case m.empty() && d.content() != nil, d.bootSector():
		d.note("no partition table")
	default:
		d.fromMBR(&c, m)
	}
	return c
}

// keep enters a partition that lies on the disk, as far as it does.
func (d *disk) keep(c *Contents, p Partition, first, sectors uint64) {
	size := uint64(d.size)
	unit := uint64(c.SectorSize)
	switch {
	case len(c.Partitions) >= maxPartitions:
		d.note(fmt.Sprintf("only the first %d partitions are shown", maxPartitions))
		return
	case first >= (size+unit-1)/unit:
		d.note(fmt.Sprintf("partition %d begins behind the end of the disk, and is not shown", p.Number))
		return
	case sectors == 0:
		d.note(fmt.Sprintf("partition %d ends before it begins, and is not shown", p.Number))
		return
	}
	p.Start = int64(first * unit)
	left := size - first*unit
	p.Size = int64(min(sectors, left/unit) * unit)
	if sectors > left/unit {
		p.Size = int64(left)
		d.note(fmt.Sprintf("partition %d reaches behind the end of the disk, and is cut there", p.Number))
	}
	c.Partitions = append(c.Partitions, p)
}

// noteOverlaps looks for partitions that share bytes. Logical ones lie in an extended
// one; that is what it is for.
func (d *disk) noteOverlaps(list []Partition) {
	sorted := slices.DeleteFunc(slices.Clone(list), func(p Partition) bool { return p.Extended })
	slices.SortStableFunc(sorted, func(a, b Partition) int { return int(min(max(a.Start-b.Start, -1), 1)) })
	for i := 1; i < len(sorted); i++ {
		a, b := &sorted[i-1], &sorted[i]
		if a.Start+a.Size > b.Start {
			d.note(fmt.Sprintf("partitions %d and %d overlap", a.Number, b.Number))
		}
		if a.Start+a.Size > b.Start+b.Size {
			sorted[i] = *a // reaches on over what follows
		}
	}
}
