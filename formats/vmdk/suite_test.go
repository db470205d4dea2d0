package vmdk

import (
	"path/filepath"
	"testing"

	"vdfs/vdcore/vdtest"
)

// TestCrashSplit runs the core's crash loop for what Create does not make: several
// files, and several kinds of extents.
func TestCrashSplit(t *testing.T) {
	fs := split()
	c := vdtest.WriteCase{
		Name: "split", Open: "/vm/disk.vmdk", Files: map[string][]byte{},
		Flat: reads(t, fs.mem(), "disk.vmdk"), BlockSize: 4096,
	}
	for name, b := range fs {
		path := filepath.Join("/vm", name)
		if c.Files[path] = b; path != c.Open {
			c.Parts = append(c.Parts, path)
		}
	}
	for seed := range uint64(3) {
		vdtest.Crash(t, c, vdtest.CrashOptions{Seed: seed, MaxCuts: 30, Survivors: 4})
	}
}
