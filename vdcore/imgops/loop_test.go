package imgops_test

import (
	"os"
	"strconv"
	"testing"

	"vdfs/vdcore/vdtest"
)

// cuts is how many cut points a crash loop samples, 0 for all. VDFS_CRASH_SEEDS asks
// for a long run.
func cuts(c vdtest.WriteCase) int {
	n := int(min(40, 120<<20/(len(c.Flat)+1<<20)))
	if seeds, _ := strconv.Atoi(os.Getenv("VDFS_CRASH_SEEDS")); seeds > 0 {
		return 0
	}
	if testing.Short() {
		return n / 4
	}
	return n
}
