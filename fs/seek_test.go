package fs

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// TestLseekWritable: holes are those of the map, until somebody opens the disk so
// that he may map it and change it there.
func TestLseekWritable(t *testing.T) {
	const end = dataStart + dataLength
	w := newWritten(t)
	check := func(off int64, whence uint32, want int64, status fuse.Status) {
		t.Helper()
		var out fuse.LseekOut
		st := w.Lseek(nil, &fuse.LseekIn{InHeader: w.header(), Offset: uint64(off), Whence: whence}, &out)
		if st != status || st.Ok() && int64(out.Offset) != want {
			t.Errorf("whence %d from %d: %v, %d; want %v, %d", whence, off, st, out.Offset, status, want)
		}
	}
	holes := func() {
		t.Helper()
		check(0, unix.SEEK_DATA, dataStart, fuse.OK)
		check(0, unix.SEEK_HOLE, 0, fuse.OK)
		check(dataStart, unix.SEEK_HOLE, end, fuse.OK)
		check(end, unix.SEEK_DATA, 0, fuse.Status(unix.ENXIO))
	}
	open := func(flags uint32) {
		t.Helper()
		if st := w.Open(nil, &fuse.OpenIn{InHeader: w.header(), Flags: flags}, &fuse.OpenOut{}); !st.Ok() {
			t.Fatal(st)
		}
	}
	holes()
	open(unix.O_RDONLY)
	open(unix.O_WRONLY)
	holes()
	open(unix.O_RDWR)
	check(0, unix.SEEK_DATA, 0, fuse.OK)
	check(0, unix.SEEK_HOLE, diskSize, fuse.OK)
	check(diskSize, unix.SEEK_DATA, 0, fuse.Status(unix.ENXIO))
	for _, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
		w.Release(nil, &fuse.ReleaseIn{InHeader: w.header(), Flags: flags})
	}
	holes()
}
