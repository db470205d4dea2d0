package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// specimen is one kind of content, made in a file of its own.
type specimen struct {
	name string
	size int64
	make string // run by a shell, on %s; "" if craft makes it
	kind string // what blkid of Debian 12 calls it

	craft func() []byte // the first bytes, where no tool is at hand
}

var specimens = []specimen{
	{"ext2", 4 << 20, `mkfs.ext2 -q -F -L second %s`, "ext2", nil},
	{"ext3", 16 << 20, `mkfs.ext3 -q -F -L third %s`, "ext3", nil},
	{"ext4", 16 << 20, `mkfs.ext4 -q -F -L sixteen-bytes-16 %s`, "ext4", nil},
	{"xfs", 320 << 20, `mkfs.xfs -q -f -L twelve-bytes %s`, "xfs", nil},
	{"btrfs", 128 << 20, `mkfs.btrfs -q -f -L 'a b ü' %s`, "btrfs", nil},
	{"ntfs", 8 << 20, `mkntfs -q -F -Q -s 512 -p 0 -H 255 -S 63 -L 'Größe 🐧' %s`, "ntfs", nil},
	{"fat12", 2 << 20, `mkfs.vfat -F 12 -n TWELVE %s`, "vfat", nil},
	{"fat16", 16 << 20, `mkfs.vfat -F 16 -n 'A B' %s`, "vfat", nil},
	{"fat32", 64 << 20, `mkfs.vfat -F 32 -n THIRTYTWO %s`, "vfat", nil},
	{"fat-unnamed", 16 << 20, `mkfs.vfat %s`, "vfat", nil},
	{"exfat", 16 << 20, `mkfs.exfat -L 'ex ü' %s`, "exfat", nil},
	{"swap", 1 << 20, `mkswap -q -L swappy %s`, "swap", nil},
	{"luks1", 20 << 20, `printf secret | cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 %s -`, "crypto_LUKS", nil},
	{"luks2", 20 << 20, `printf secret | cryptsetup -q luksFormat --type luks2 --label locked --pbkdf pbkdf2 --pbkdf-force-iterations 1000 %s -`, "crypto_LUKS", nil},
	{"erofs", 1 << 20, `d=$(mktemp -d); mkfs.erofs %s $d >/dev/null 2>&1; rmdir $d`, "erofs", nil},
	{"lvm", 4 << 20, "", "LVM2_member", craftLVM},
	{"bitlocker", 4 << 20, "", "BitLocker", craftBitLocker},
	{"raid", 4 << 20, "", "linux_raid_member", craftRAID},
	{"nothing", 1 << 20, `true %s`, "", nil},
}

// craftLVM is the label of a physical volume, as pvcreate writes it.
func craftLVM() []byte {
	p := make([]byte, 1024)
	copy(p[512:], "LABELONE")
	p[512+8] = 1
	binary.LittleEndian.PutUint32(p[512+20:], 32)
	copy(p[512+24:], "LVM2 001")
	copy(p[512+32:], "abcdefghijklmnopqrstuvwxyzABCDEF")
	binary.LittleEndian.PutUint32(p[512+16:], lvmSum(p[512+20:1024]))
	return p
}

// lvmSum is LVM's CRC-32, which begins with a number of its own.
func lvmSum(p []byte) uint32 {
	crc := uint32(0xf597a6cf)
	for _, b := range p {
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ 0xEDB88320&-(crc&1)
		}
	}
	return crc
}

// craftBitLocker is the boot sector of Windows 7 and later, with the head of the
// metadata that it leads to.
func craftBitLocker() []byte {
	p := make([]byte, 8192)
	copy(p[4096:], "-FVE-FS-")
	binary.LittleEndian.PutUint16(p[4096+8:], 256)
	binary.LittleEndian.PutUint16(p[4096+10:], 2)
	copy(p, "\xeb\x58\x90-FVE-FS-")
	copy(p[160:], "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01")
	binary.LittleEndian.PutUint64(p[176:], 4096)
	p[510], p[511] = 0x55, 0xAA
	return p
}

// craftRAID is a member of an array, superblock 1.2.
func craftRAID() []byte {
	p := make([]byte, 8192)
	s := p[4096:]
	binary.LittleEndian.PutUint32(s, 0xa92b4efc)
	binary.LittleEndian.PutUint32(s[4:], 1)
	copy(s[16:], "0123456789abcdef")
	copy(s[32:], "host:array")
	binary.LittleEndian.PutUint64(s[144:], 8)
	sum := uint64(0)
	for i := 0; i < 256; i += 4 {
		sum += uint64(binary.LittleEndian.Uint32(s[i:]))
	}
	binary.LittleEndian.PutUint32(s[216:], uint32(sum)+uint32(sum>>32))
	return p
}

// TestSignatures: what tools make is called, labelled and numbered by vdfs as by blkid,
// in a partition and alone on a disk.
func TestSignatures(t *testing.T) {
	for _, name := range words("mkfs.ext4 mkfs.xfs mkfs.btrfs mkntfs mkfs.vfat mkfs.exfat mkswap cryptsetup mkfs.erofs blkid sfdisk") {
		needTool(t, name)
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.raw")
	script, at := "label: gpt\n", int64(1<<20)
	for _, s := range specimens {
		script += fmt.Sprintf("start=%d, size=%d\n", at/512, s.size/512)
		at += s.size
	}
	writeFile(t, disk, nil)
	if err := os.Truncate(disk, at+1<<20); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "table"), []byte(script))
	tool(t, "sh", "-c", `exec sfdisk -q --no-reread --no-tell-kernel "$1" <"$0"`, filepath.Join(dir, "table"), disk)

	at = 1 << 20
	for _, s := range specimens {
		alone := filepath.Join(dir, s.name)
		s.write(t, alone)
		tool(t, "dd", "if="+alone, "of="+disk, "bs=1M", "conv=notrunc,sparse", fmt.Sprintf("seek=%d", at>>20), "status=none")
		at += s.size
	}
	got := contentsOf(t, disk)
	if len(got.Partitions) != len(specimens) {
		t.Fatalf("%d partitions of %d", len(got.Partitions), len(specimens))
	}
	for i, s := range specimens {
		p := got.Partitions[i]
		s.compare(t, p.Content, disk, p.Start)
		s.compare(t, contentsOf(t, filepath.Join(dir, s.name)).Content, filepath.Join(dir, s.name), 0)
	}
}

func (s specimen) write(t *testing.T, path string) {
	t.Helper()
	var head []byte
	if s.craft != nil {
		head = s.craft()
	}
	writeFile(t, path, head)
	if err := os.Truncate(path, s.size); err != nil {
		t.Fatal(err)
	}
	if s.make != "" {
		tool(t, "sh", "-ec", fmt.Sprintf(s.make, path))
	}
	if err := os.Truncate(path, s.size); err != nil { // mkfs.erofs makes it shorter
		t.Fatal(err)
	}
}

// compare holds what vdfs says to blkid.
func (s specimen) compare(t *testing.T, got *content, path string, off int64) {
	t.Helper()
	r := command(t, nil, "blkid", "-p", "-o", "udev", "--offset", fmt.Sprint(off), "--size", fmt.Sprint(s.size), path)
	said := map[string]string{}
	for line := range strings.Lines(r.stdout) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[key] = unescape(value)
	}
	want := content{said["ID_FS_TYPE"], said["ID_FS_LABEL_ENC"], said["ID_FS_UUID_ENC"]}
	if want.Type != s.kind {
		t.Errorf("%s: blkid says %q, the test expects %q", s.name, want.Type, s.kind)
	}
	if got == nil {
		got = &content{}
	}
	if *got != want {
		t.Errorf("%s at %d: %+v, blkid: %+v", s.name, off, *got, want)
	}
}

// unescape undoes blkid's \xNN.
func unescape(s string) string {
	return escapes.ReplaceAllStringFunc(s, func(e string) string {
		n, _ := strconv.ParseUint(e[2:], 16, 8)
		return string([]byte{byte(n)})
	})
}

var escapes = regexp.MustCompile(`\\x[0-9a-f]{2}`)

// TestInfoText: info lists what is there and the commands for it, quoted for a shell.
func TestInfoText(t *testing.T) {
	needTool(t, "sfdisk")
	needTool(t, "mkfs.ext4")
	dir := filepath.Join(t.TempDir(), "it's here")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "a disk.raw")
	layouts[7].make(t, disk)
	out := must(t, "info", disk)
	for _, want := range []string{
		"MBR 0x", "sectors of 4096 bytes", "p5 ", "Linux swap", `ext4 `,
		`vdfs mount '` + strings.ReplaceAll(disk, "'", `'\''`) + `' /mnt`,
		`losetup -r -P --show -f --sector-size 4096 '/mnt/a disk/disk.raw'`,
		`mount -t ext4 -o ro,loop,noload '/mnt/a disk/p1.raw' /inside`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("info does not say %q:\n%s", want, out)
		}
	}
	if bytes.ContainsRune([]byte(out), 0x1b) {
		t.Error("info sends escapes")
	}
}
