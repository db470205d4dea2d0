package contents

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// signature looks for one kind of content; nil when it is not there.
type signature func(d *disk) *Content

// signatures in the order they count: what wraps another thing comes first, since the
// first member of a mirror looks like what is mirrored.
var signatures = []signature{
	raid, lvm, luks, bitlocker, // containers
	ntfs, exfat, fat, xfs, ext, btrfs, swap, f2fs, hfsPlus, apfs, refs, squashfs, erofs, vmfs, iso9660,
}

func (d *disk) content() *Content { return firstOf(d, signatures...) }

func firstOf(d *disk, list ...signature) *Content {
	for _, s := range list {
		if c := s(d); c != nil {
			return c
		}
	}
	return nil
}

// field reads n bytes at off if magic lies at magicAt among them.
func (d *disk) field(off, n int64, magicAt int, magic string) []byte {
	p := d.read(off, n)
	if p == nil || !bytes.HasPrefix(p[magicAt:], []byte(magic)) {
		return nil
	}
	return p
}

// raid is a member of a Linux array. Its superblock lies 8 KiB before the end (1.0), at
// the beginning (1.1), at 4 KiB (1.2), or in the last 64 KiB but those before (0.90).
// Source: linux/raid/md_p.h.
func raid(d *disk) *Content {
	const magic = "\xfc\x4e\x2b\xa9"
	for _, at := range []int64{0, 4096, (d.size/512 - 16) &^ 7 * 512} {
		if p := d.field(at, 256, 0, magic); p != nil && le32(p[4:]) == 1 && le64(p[144:]) == uint64(at/512) {
			return &Content{"linux_raid_member", text(p[32:64]), bigUUID(p[16:])}
		}
	}
	if p := d.field(d.size&^0xFFFF-0x10000, 128, 0, magic); p != nil && le32(p[4:]) == 0 {
		id := append(bytes.Clone(p[20:24]), p[52:64]...)
		for i := 0; i < 16; i += 4 { // four numbers
			id[i], id[i+1], id[i+2], id[i+3] = id[i+3], id[i+2], id[i+1], id[i]
		}
		return &Content{"linux_raid_member", "", bigUUID(id)}
	}
	return nil
}

// lvm is a physical volume: a label in one of the first four sectors, which says where
// the header with the UUID is. Source: lvm2's lib/label/label.h and format_text/layout.h.
func lvm(d *disk) *Content {
	for at := int64(0); at < 2048; at += 512 {
		p := d.field(at, 512, 0, "LABELONE")
		if p == nil || string(p[24:32]) != "LVM2 001" || le64(p[8:]) != uint64(at/512) {
			continue
		}
		header := int64(le32(p[20:]))
		if header < 32 || header > 512-32 {
			continue
		}
		id := text(p[header : header+32])
		if len(id) == 32 && utf8.RuneCountInString(id) == 32 {
			id = strings.Join([]string{id[:6], id[6:10], id[10:14], id[14:18], id[18:22], id[22:26], id[26:]}, "-")
		}
		return &Content{Type: "LVM2_member", UUID: id}
	}
	return nil
}

// luks is of version 1 or 2; only the latter has labels. Source: the LUKS1 and LUKS2
// on-disk format specifications.
func luks(d *disk) *Content {
	p := d.field(0, 512, 0, "LUKS\xba\xbe")
	if p == nil {
		return nil
	}
	c := &Content{Type: "crypto_LUKS", UUID: text(p[168:208])}
	if be16(p[6:]) == 2 {
		c.Label = text(p[24:72])
	}
	return c
}

// bitlocker has a boot sector like that of NTFS, or of FAT on removable disks, and there a
// GUID of its own. Source: libbde's documentation of the format.
func bitlocker(d *disk) *Content {
	const id = "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"
	if d.field(0, 512, 3, "-FVE-FS-") != nil || d.field(0, 512, 424, id) != nil {
		return &Content{Type: "BitLocker"}
	}
	return nil
}

// xfs: fs/xfs/libxfs/xfs_format.h, struct xfs_dsb.
func xfs(d *disk) *Content {
	p := d.field(0, 512, 0, "XFSB")
	if p == nil {
		return nil
	}
	return &Content{"xfs", text(p[108:120]), bigUUID(p[32:])}
}

// Of ext file systems: fs/ext4/ext4.h, struct ext4_super_block. A file system with none
// of the features ext4 brought is ext3 with a journal, ext2 without.
const (
	extHasJournal  = 0x4
	extJournalDev  = 0x8
	ext3Incompat   = 0x2 | 0x4 | 0x10 // filetype, recover, meta_bg
	ext3ReadCompat = 0x1 | 0x2 | 0x4  // sparse_super, large_file, btree_dir
)

func ext(d *disk) *Content {
	p := d.field(1024, 1024, 0x38, "\x53\xef")
	if p == nil || le32(p[0x18:]) > 6 { // block size: 1 KiB << 6 at most
		return nil
	}
	c := &Content{"ext2", text(p[0x78:0x88]), bigUUID(p[0x68:])}
	compat, incompat, readCompat := le32(p[0x5C:]), le32(p[0x60:]), le32(p[0x64:])
	switch {
	case incompat&extJournalDev != 0:
		c.Type = "jbd"
	case incompat&^ext3Incompat != 0 || readCompat&^ext3ReadCompat != 0:
		c.Type = "ext4"
	case compat&extHasJournal != 0:
		c.Type = "ext3"
	}
	return c
}

// btrfs: include/uapi/linux/btrfs_tree.h, struct btrfs_super_block, at 64 KiB.
func btrfs(d *disk) *Content {
	p := d.field(64<<10, 1024, 64, "_BHRfS_M")
	if p == nil {
		return nil
	}
	return &Content{"btrfs", text(p[0x12B : 0x12B+256]), bigUUID(p[0x20:])}
}

// swap has its magic at the end of the first page, whose size is the machine's: include/
// linux/swap.h, union swap_header. What is left of a suspended machine has another one.
func swap(d *disk) *Content {
	for page := int64(4 << 10); page <= 64<<10; page *= 2 {
		magic := string(d.read(page-10, 10))
		suspended := strings.HasPrefix(magic, "S1SUSPEND") || strings.HasPrefix(magic, "LINHIB0001") || strings.HasPrefix(magic, "ULSUSPEND")
		if magic != "SWAPSPACE2" && magic != "SWAP-SPACE" && !suspended {
			continue
		}
		c := &Content{Type: "swap"}
		if suspended {
			c.Type = "swsuspend"
		}
		if p := d.read(1024, 44); p != nil && le32(p) == 1 {
			c.UUID, c.Label = bigUUID(p[12:]), text(p[28:44])
		}
		return c
	}
	return nil
}

// f2fs: include/linux/f2fs_fs.h, struct f2fs_super_block.
func f2fs(d *disk) *Content {
	p := d.field(1024, 1024, 0, "\x10\x20\xf5\xf2")
	if p == nil {
		return nil
	}
	return &Content{"f2fs", wide(p[0x7C : 0x7C+512]), bigUUID(p[0x6C:])}
}

// hfsPlus: Apple's TN1150. Its name lies in a tree, and is not looked for.
func hfsPlus(d *disk) *Content {
	if d.field(1024, 512, 0, "H+\x00\x04") != nil || d.field(1024, 512, 0, "HX\x00\x05") != nil {
		return &Content{Type: "hfsplus"}
	}
	return nil
}

// apfs: Apple File System Reference, nx_superblock_t.
func apfs(d *disk) *Content {
	p := d.field(0, 512, 32, "NXSB")
	if p == nil {
		return nil
	}
	return &Content{Type: "apfs", UUID: bigUUID(p[72:])}
}

func refs(d *disk) *Content {
	if d.field(0, 512, 3, "ReFS\x00\x00\x00\x00") == nil {
		return nil
	}
	return &Content{Type: "ReFS"}
}

func squashfs(d *disk) *Content {
	if p := d.field(0, 96, 0, "hsqs"); p == nil || le16(p[28:]) != 4 {
		return nil
	}
	return &Content{Type: "squashfs"}
}

// erofs: fs/erofs/erofs_fs.h, struct erofs_super_block.
func erofs(d *disk) *Content {
	p := d.field(1024, 128, 0, "\xe2\xe1\xf5\xe0")
	if p == nil {
		return nil
	}
	return &Content{"erofs", text(p[64:80]), bigUUID(p[48:])}
}

// vmfs is a partition of VMware's file system, by the header of its volume at 1 MiB.
func vmfs(d *disk) *Content {
	if d.field(1<<20, 512, 0, "\x0d\xd0\x01\xc0") == nil {
		return nil
	}
	return &Content{Type: "VMFS_volume_member"}
}

// iso9660: ECMA-119, the primary volume descriptor. The date of the last change, or that
// of the making, stands for a UUID.
func iso9660(d *disk) *Content {
	p := d.field(32<<10, 2048, 0, "\x01CD001")
	if p == nil {
		return nil
	}
	c := &Content{Type: "iso9660", Label: padded(p[40:72])}
	for _, at := range []int{830, 813} {
		if t := text(p[at : at+16]); len(t) == 16 && strings.Trim(t, "0 ") != "" {
			c.UUID = fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", t[:4], t[4:6], t[6:8], t[8:10], t[10:12], t[12:14], t[14:])
			break
		}
	}
	return c
}
