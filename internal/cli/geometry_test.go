package cli

import (
	"path/filepath"
	"testing"

	"vdfs/vdcore"
)

// TestGeometryNames: create and set take the physical geometry by the same names.
func TestGeometryNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	for _, args := range [][]string{
		{"vdfs", "create", "--size=64M", "--pchs", "100/16/63", path},
		{"vdfs", "set", path, "--geometry=100/16/63"},
		{"vdfs", "set", path, "--pchs=100/16/63"},
		{"vdfs", "create", "--force", "--size=64M", "--geometry", "100/16/63", path},
	} {
		if code := Run(args); code != exitOK {
			t.Fatalf("%v: exit %d", args, code)
		}
		c, err := vdcore.Open(path, vdcore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if g := c.Top().Layer().Info().PCHS; g != (vdcore.Geometry{Cylinders: 100, Heads: 16, Sectors: 63}) {
			t.Errorf("%v: %v", args, g)
		}
		c.Close()
	}
}
