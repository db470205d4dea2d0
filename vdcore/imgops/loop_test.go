package imgops

import (
	"os"
	"testing"
)

// Cuts is how many cut points a crash loop over a disk of so many bytes samples, 0 for
// all, which VDFS_CRASH_SEEDS asks for.
func Cuts(size int64) int {
	switch {
	case os.Getenv("VDFS_CRASH_SEEDS") != "":
		return 0
	case testing.Short():
		return 2
	}
	return int(min(14, 20<<20/size+1))
}
