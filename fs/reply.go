package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// bytesReply is a reply that lies in memory. It offers its bytes as Slices,
// because go-fuse then writes them at once; every other kind of result it first
// tries to splice, which for memory is a pipe write, a splice and an ioctl in
// vain.
type bytesReply struct {
	data []byte
	iov  [1][]byte
}

var bytesReplies = sync.Pool{New: func() any { return new(bytesReply) }}

// noBytes is the reply at the end of a file.
var noBytes = fuse.ReadResultData(nil)

// newBytes wraps p, which must stay as it is until Done.
func newBytes(p []byte) *bytesReply {
	r := bytesReplies.Get().(*bytesReply)
	r.data = p
	return r
}

func (r *bytesReply) Size() int                          { return len(r.data) }
func (r *bytesReply) Bytes([]byte) ([]byte, fuse.Status) { return r.data, fuse.OK }

// Slices is go-fuse's withSlice.
func (r *bytesReply) Slices() ([][]byte, fuse.Status) {
	r.iov[0] = r.data
	return r.iov[:], fuse.OK
}

func (r *bytesReply) Done() {
	r.data, r.iov[0] = nil, nil
	bytesReplies.Put(r)
}

// window is a reply that lies in one piece in an image file and goes to the
// kernel from there by splice.
type window struct {
	file    *diskFile
	off     int64 // in the disk
	n       int64
	fd      int
	pos     int64 // in the image file
	release func()
}

// openWindow returns nil when the range is not one piece, or when the image file
// has become shorter: a splice that comes up short would be a short reply, which
// the kernel fills up with zeros. The way through memory says what is wrong.
func openWindow(f *diskFile, off, n int64) *window {
	fd, pos, release, ok := f.disk().Window(off, n)
	if !ok {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size < pos+n {
		release()
		return nil
	}
	return &window{f, off, n, fd, pos, release}
}

func (w *window) Size() int { return int(w.n) }
func (w *window) Done()     { w.release() }

// Seekable is go-fuse's seekableResult: where to splice from.
func (w *window) Seekable() (fd uintptr, off int64, size int) {
	return uintptr(w.fd), w.pos, int(w.n)
}

// Bytes is asked for when the splice failed.
func (w *window) Bytes(buf []byte) ([]byte, fuse.Status) {
	if err := w.file.readFull(buf[:w.n], w.off); err != nil {
		return nil, status(err)
	}
	return buf[:w.n], fuse.OK
}
