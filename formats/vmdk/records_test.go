package vmdk

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRecords: in whatever order records come, those that come again are found.
func TestRecords(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	rising := make([]int64, 3000)
	at := int64(0)
	for i := range rising {
		at += 1 + random.Int64N(100)
		rising[i] = at * sector
	}
	falling := slices.Clone(rising)
	slices.Reverse(falling)
	shuffled := slices.Clone(rising)
	random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for name, order := range map[string][]int64{
		"rising": rising, "falling": falling, "shuffled": shuffled,
		"the last one again":  append(slices.Clone(rising), rising[len(rising)-1]),
		"the first one again": append(slices.Clone(rising), rising[0]),
		"each twice at once":  slices.Sorted(slices.Values(append(slices.Clone(rising), rising...))),
		"all of them again":   append(slices.Clone(rising), rising...),
		"beyond 2 TiB":        append(slices.Clone(rising), 3<<40, rising[5], 3<<40),
		"none":                nil,
	} {
		for _, most := range []int64{0, 1, 1000, 1 << 40} {
			r := newRecords(newSeen(sector, 4<<40), most)
			was := map[int64]bool{}
			for i, pos := range order {
				if got := r.note(pos); got != was[pos] {
					t.Fatalf("%s, room for %d: record %d at %d: noted before is %t", name, most, i, pos, got)
				}
				was[pos] = true
			}
			r.bitmap.free()
		}
	}
}
