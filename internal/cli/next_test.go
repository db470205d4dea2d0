package cli

import (
	"strings"
	"testing"

	"vdfs/vdcore/contents"
)

func TestSteps(t *testing.T) {
	c := contents.Contents{Table: "gpt", SectorSize: 4096, Partitions: []contents.Partition{
		{Number: 1, Content: &contents.Content{Type: "ntfs"}},
		{Number: 2, Extended: true},
		{Number: 3, Content: &contents.Content{Type: "crypto_LUKS"}},
		{Number: 4, Content: &contents.Content{Type: "swap"}},
		{Number: 5, Content: &contents.Content{Type: "LVM2_member"}},
		{Number: 6, Content: &contents.Content{Type: "BitLocker"}},
	}}
	got := strings.Join(steps(c, "/mnt/a b/disk.raw", "/mnt/a b"), "\n")
	for _, want := range []string{
		"losetup -r -P --show -f --sector-size 4096 '/mnt/a b/disk.raw'",
		"mount -t ntfs3 -o ro,loop '/mnt/a b/p1.raw' /inside",
		"cryptsetup --readonly open '/mnt/a b/p3.raw' vdfs-p3",
		"losetup -r --show -f '/mnt/a b/p5.raw'", `vgchange -ay --devices "$pv"`,
		"cryptsetup --readonly bitlkOpen '/mnt/a b/p6.raw' vdfs-p6",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "p4.raw") || strings.Contains(got, "p2.raw") {
		t.Errorf("swap and extended partitions are nothing to mount:\n%s", got)
	}
	if list := steps(contents.Contents{}, "/disk", ""); len(list) != 0 {
		t.Errorf("%q for nothing", list)
	}
	for range 20 {
		c.Partitions = append(c.Partitions, contents.Partition{Number: 7, Content: &contents.Content{Type: "ext4"}})
	}
	if list := steps(c, "/d", "/"); len(list) != maxSteps+1 {
		t.Errorf("%d lines", len(list))
	}
}
