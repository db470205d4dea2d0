package imgops_test

import (
	"os"
	"testing"
)

// cuts is how many cut points a crash loop over a disk of so many bytes samples, 0 for
// all, which VDFS_CRASH_SEEDS asks for. Under the race detector, which makes it ten
// times as slow and finds nothing in what runs one after the other, they are few.
func cuts(size int64) int {
	switch {
	case os.Getenv("VDFS_CRASH_SEEDS") != "":
		return 0
	case raced || testing.Short():
		return 2
	}
	return int(min(30, 40<<20/size))
}
