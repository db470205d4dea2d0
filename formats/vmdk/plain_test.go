package vmdk

import (
	"fmt"
	"testing"

	"vdfs/vdcore"
)

// TestPlain: only one flat extent that is all of its file is the disk itself.
func TestPlain(t *testing.T) {
	text := func(lines string) []byte {
		return []byte("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"custom\"\n" + lines)
	}
	for _, c := range []struct {
		name, lines string
		size        int
		plain       bool
	}{
		{"whole", "RW 16 FLAT \"flat.vmdk\" 0\n", 8192, true},
		{"longer than the extent", "RW 16 FLAT \"flat.vmdk\" 0\n", 8704, false},
		{"at an offset", "RW 15 FLAT \"flat.vmdk\" 1\n", 8192, false},
		{"at an offset, of the disk's size", "RW 16 FLAT \"flat.vmdk\" 1\n", 8192 + 512, false},
		{"two extents", "RW 8 FLAT \"flat.vmdk\" 0\nRW 8 FLAT \"flat.vmdk\" 8\n", 8192, false},
		{"two extents in the wrong order", "RW 8 FLAT \"flat.vmdk\" 8\nRW 8 FLAT \"flat.vmdk\" 0\n", 8192, false},
		{"with zeros behind", "RW 8 FLAT \"flat.vmdk\" 0\nRW 8 ZERO\n", 4096, false},
	} {
		fsys := files{"disk.vmdk": text(c.lines), "flat.vmdk": stamp(0, c.size)}.mem()
		chain, err := vdcore.OpenFS(fsys, "/vm/disk.vmdk", vdcore.Options{})
		if err != nil {
			t.Fatal(fmt.Errorf("%s: %w", c.name, err))
		}
		if f := chain.Top().Plain(); (f != nil) != c.plain || f != nil && f.Path() != "/vm/flat.vmdk" {
			t.Errorf("%s: %v", c.name, f)
		}
		if err := chain.Close(); err != nil {
			t.Error(err)
		}
	}
	sparse := files{"disk.vmdk": small().bytes()}.mem()
	chain, err := vdcore.OpenFS(sparse, "/vm/disk.vmdk", vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	if f := chain.Top().Plain(); f != nil {
		t.Errorf("a file with tables is plain: %v", f)
	}
}
