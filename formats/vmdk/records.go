package vmdk

import "math"

// maxListed bounds the records that are remembered one by one: 4 bytes each.
const maxListed = 1 << 16

// records remembers at which sectors compressed grains begin. As long as each lies behind
// the one before, as all programs write them, a list takes a quarter of the memory of a
// bitmap of the file's sectors, which is as large as if the grains were not compressed.
type records struct {
	bitmap *seen    // of sectors, empty while the list will do
	list   []uint32 // nil when it will not
}

func newRecords(bitmap *seen, most int64) records {
	return records{bitmap: bitmap, list: make([]uint32, 0, min(most, maxListed))}
}

// note reports whether the record at pos was noted before.
func (r *records) note(pos int64) (again bool) {
	at := pos / sector
	if r.list != nil {
		if r.append(at) {
			return false
		}
		r.spread()
	}
	again, _ = r.bitmap.note(pos)
	return again
}

// append puts a sector behind the others in the list, if that is its place and there is
// room.
func (r *records) append(at int64) bool {
	n := len(r.list)
	if n == cap(r.list) || at > math.MaxUint32 || n > 0 && at <= int64(r.list[n-1]) {
		return false
	}
	r.list = append(r.list, uint32(at))
	return true
}

// spread enters what is in the list into the bitmap, for good.
func (r *records) spread() {
	for _, at := range r.list {
		r.bitmap.note(int64(at) * sector)
	}
	r.list = nil
}
