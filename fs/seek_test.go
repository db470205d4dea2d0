package fs

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// dirtyKernel holds pages that were changed through a mapping, by offset, and
// writes them when it has to forget them.
type dirtyKernel struct {
	*written
	pages  map[int64]bool
	told   map[int64]int64 // lengths by offset; may be nil
	status fuse.Status
}

func (k *dirtyKernel) InodeNotify(node uint64, off, length int64) fuse.Status {
	if node != k.disk {
		k.t.Errorf("node %d is told of", node)
	}
	if k.told != nil {
		k.told[off] = length
	}
	for at := range k.pages {
		if off < at+4096 && at < off+length {
			k.put(at, pattern(4096, 9), 4096)
			delete(k.pages, at)
		}
	}
	return k.status
}

// What the kernel has not written back is no hole, wherever in the hole it is.
func TestLseekKnowsOfMappedChanges(t *testing.T) {
	const end = dataStart + dataLength
	for _, c := range []struct {
		off    int64
		whence uint32
		dirty  []int64
		want   int64
		status fuse.Status
	}{
		{0, unix.SEEK_DATA, nil, dataStart, 0},
		{0, unix.SEEK_DATA, []int64{8192}, 8192, 0},
		{0, unix.SEEK_DATA, []int64{0}, 0, 0},
		{dataStart, unix.SEEK_DATA, []int64{8192}, dataStart, 0},
		{end, unix.SEEK_DATA, nil, 0, fuse.Status(unix.ENXIO)},
		{end, unix.SEEK_DATA, []int64{1 << 19}, 1 << 19, 0},
		{0, unix.SEEK_HOLE, nil, 0, 0},
		{0, unix.SEEK_HOLE, []int64{0}, 4096, 0},
		{dataStart, unix.SEEK_HOLE, nil, end, 0},
		{dataStart, unix.SEEK_HOLE, []int64{end}, end + 4096, 0},
		{0, unix.SEEK_HOLE, []int64{0, 4096, 12288}, 8192, 0},
	} {
		w := newWritten(t)
		k := &dirtyKernel{written: w, pages: map[int64]bool{}}
		for _, at := range c.dirty {
			k.pages[at] = true
		}
		w.kernel = k
		var out fuse.LseekOut
		st := w.Lseek(nil, &fuse.LseekIn{InHeader: w.header(), Offset: uint64(c.off), Whence: c.whence}, &out)
		if st != c.status || st.Ok() && int64(out.Offset) != c.want {
			t.Errorf("whence %d from %d, dirty %v: %v, %d; want %d", c.whence, c.off, c.dirty, st, out.Offset, c.want)
		}
	}
}

// A kernel that does not answer may hold anything.
func TestLseekWithoutTheKernel(t *testing.T) {
	w := newWritten(t)
	w.kernel = &dirtyKernel{written: w, status: fuse.ENOSYS}
	for whence, want := range map[uint32]uint64{unix.SEEK_DATA: 0, unix.SEEK_HOLE: diskSize} {
		var out fuse.LseekOut
		if st := w.Lseek(nil, &fuse.LseekIn{InHeader: w.header(), Whence: whence}, &out); !st.Ok() || out.Offset != want {
			t.Errorf("whence %d: %v, %d", whence, st, out.Offset)
		}
	}
}
