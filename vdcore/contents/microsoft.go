package contents

import (
	"bytes"
	"fmt"
)

// bootRecord is the geometry all of Microsoft's file systems begin with. Source:
// Microsoft's FAT specification (fatgen103).
type bootRecord struct {
	p       []byte
	sector  int64 // bytes
	cluster int64 // bytes
}

func parseBoot(p []byte) *bootRecord {
	b := &bootRecord{p: p, sector: int64(le16(p[11:])), cluster: int64(p[13])}
	if b.sector < 256 || b.sector > 4096 || b.sector&(b.sector-1) != 0 || b.cluster == 0 || b.cluster&(b.cluster-1) != 0 {
		return nil
	}
	b.cluster *= b.sector
	return b
}

// fat is FAT12, FAT16 or FAT32. Its name is an entry of the root folder, and stands in
// the boot sector too, where old tools leave a word that is none.
func fat(d *disk) *Content {
	p := d.read(0, 512)
	if p == nil || le16(p[510:]) != mbrSignature {
		return nil
	}
	b := parseBoot(p)
	media := p[21]
	reserved, copies := int64(le16(p[14:])), int64(p[16])
	if b == nil || reserved == 0 || copies == 0 || media != 0xF0 && media < 0xF8 {
		return nil
	}
	length, entries := int64(le16(p[22:])), int64(le16(p[17:]))
	if length > 0 {
		if !bytes.HasPrefix(p[54:], []byte("FAT")) && !bytes.HasPrefix(p[54:], []byte("MSDOS")) {
			return nil
		}
		root := (reserved + copies*length) * b.sector
		return &Content{"vfat", fatLabel(d, root, entries*32, p[43:54]), serial(le32(p[39:]))}
	}
	length = int64(le32(p[36:]))
	if length == 0 || !bytes.HasPrefix(p[82:], []byte("FAT32")) && !bytes.HasPrefix(p[82:], []byte("MSWIN")) {
		return nil
	}
	root := (reserved+copies*length)*b.sector + (int64(le32(p[44:]))-2)*b.cluster
	return &Content{"vfat", fatLabel(d, root, b.cluster, p[71:82]), serial(le32(p[67:]))}
}

// maxFolder is how much of a root folder is looked through for the name; tools make its
// entry the first.
const maxFolder = 64 << 10

func fatLabel(d *disk, root, size int64, boot []byte) string {
	const volume, folder, long = 0x08, 0x10, 0x0F
	list := d.read(root, min(size, maxFolder))
	for ; len(list) >= 32 && list[0] != 0; list = list[32:] {
		attr := list[11] & 0x3F
		if list[0] != 0xE5 && attr != long && attr&(volume|folder) == volume {
			return padded(list[:11])
		}
	}
	if s := padded(boot); s != "NO NAME" {
		return s
	}
	return ""
}

// exfat: Microsoft's exFAT specification. The name is an entry of the root folder.
func exfat(d *disk) *Content {
	p := d.field(0, 512, 3, "EXFAT   ")
	if p == nil || le16(p[510:]) != mbrSignature || p[108] < 9 || p[108] > 12 || p[109] > 25-p[108] {
		return nil
	}
	c := &Content{Type: "exfat", UUID: serial(le32(p[100:]))}
	sector := int64(1) << p[108]
	cluster := sector << p[109]
	root := int64(le32(p[88:]))*sector + (int64(le32(p[96:]))-2)*cluster
	for list := d.read(root, min(cluster, maxFolder)); len(list) >= 32 && list[0] != 0; list = list[32:] {
		if list[0] == 0x83 {
			c.Label = wide(list[2 : 2+2*min(11, int(list[1]))])
			break
		}
	}
	return c
}

// ntfs: the documentation of the linux-ntfs project. The name is an attribute of the
// third record of the table of files.
func ntfs(d *disk) *Content {
	p := d.field(0, 512, 3, "NTFS    ")
	if p == nil {
		return nil
	}
	b := parseNTFS(p)
	if b == nil {
		return nil
	}
	c := &Content{Type: "ntfs", UUID: fmt.Sprintf("%016X", le64(p[72:]))}
	if mft := le64(p[48:]); mft < uint64(d.size/b.cluster) {
		c.Label = ntfsLabel(d.read(int64(mft)*b.cluster+3*b.record, b.record))
	}
	return c
}

type ntfsRecord struct{ cluster, record int64 } // bytes

// parseNTFS reads the sizes; negative ones are powers of two.
func parseNTFS(p []byte) *ntfsRecord {
	sector := int64(le16(p[11:]))
	if sector < 256 || sector > 4096 || sector&(sector-1) != 0 {
		return nil
	}
	power := func(n byte, unit int64) int64 {
		if s := -int8(n); int8(n) < 0 && s <= 31 && s > 0 {
			return 1 << s
		}
		return int64(n) * unit
	}
	b := &ntfsRecord{cluster: int64(p[13]) * sector}
	if p[13] > 0x80 { // large clusters: a power of two in sectors
		b.cluster = sector << min(-int8(p[13])&31, 12)
	}
	b.record = power(p[64], b.cluster)
	if b.cluster <= 0 || b.record < 256 || b.record > 64<<10 {
		return nil
	}
	return b
}

func ntfsLabel(p []byte) string {
	const volumeName, end = 0x60, 0xFFFFFFFF
	if len(p) < 64 || string(p[:4]) != "FILE" {
		return ""
	}
	for at := int(le16(p[20:])); at >= 42 && at+24 <= len(p); {
		kind, size := le32(p[at:]), int(le32(p[at+4:]))
		if kind == end || size < 24 || size > len(p)-at {
			return ""
		}
		if kind == volumeName {
			length, off := int(le32(p[at+16:])), int(le16(p[at+20:]))
			if p[at+8] != 0 || off > size || length < 0 || length > size-off {
				return ""
			}
			return wide(p[at+off : at+off+length])
		}
		at += size
	}
	return ""
}
