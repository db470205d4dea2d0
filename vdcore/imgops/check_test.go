package imgops

import (
	"path/filepath"
	"testing"

	"vdfs/vdcore"
)

// TestCheckLarge: a disk with more tables than are mended is not damaged for that.
func TestCheckLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.vmdk")
	if err := Create(t.Context(), path, CreateOptions{Capacity: 33 << 40}, nil); err != nil {
		t.Skip(err) // a file system without files of 4 GiB
	}
	c, err := vdcore.Open(path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := Check(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, damaged := list[0].Count(); damaged > 0 || len(list[0].Findings) != 1 {
		t.Errorf("%+v", list)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_, kept, err := Repair(t.Context(), path, RepairOptions{}, nil)
	if err != nil || len(kept) != 1 || !kept[0].Odd {
		t.Errorf("%v, %+v", err, kept)
	}
}
