package fs

import (
	"os"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/hanwen/go-fuse/v2/splice"

	"vdfs/vdcore/storage"
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

// pipeReply is a reply that lies in one piece in an image file and goes from its
// page cache to the kernel by splice, copied once instead of twice. The handler
// fills the pipe itself. go-fuse would do that too, given the descriptor, but when
// a splice comes up short (a bad sector, a file cut off) it sends a short reply,
// and the kernel takes that for the end of the file and fills up with zeros.
type pipeReply struct {
	file *diskFile
	off  int64 // in the disk
	n    int
	pair *splice.Pair
}

// pipes counts the pipes in use. Unused ones are never closed, so where the process may
// not have many descriptors there must never be many at a time.
var pipes atomic.Int64

// pipeShare: there may be one pipe for so many descriptors. Each takes two, and so does
// one of go-fuse's beside it.
const pipeShare = 16

// maySplice makes sure that pipes can be given back: go-fuse opens /dev/null when the
// first one is, and panics where it cannot. Called before descriptors run short.
var maySplice = sync.OnceValue(func() bool {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	pair, err := splice.Get()
	null.Close()
	if err != nil {
		return false
	}
	splice.Done(pair)
	return true
})

// newPipeReply returns nil when the range is not one piece or cannot be spliced
// whole: then the way through memory says what is wrong, if anything is.
func newPipeReply(f *diskFile, off, n int64) *pipeReply {
	if !maySplice() {
		return nil
	}
	if pipes.Add(1) <= storage.MayOpen()/pipeShare {
		if r := loadPipe(f, off, n); r != nil {
			return r
		}
	}
	pipes.Add(-1)
	return nil
}

func loadPipe(f *diskFile, off, n int64) *pipeReply {
	fd, pos, release, ok := f.disk().Window(off, n)
	if !ok {
		return nil
	}
	defer release() // the pipe holds the pages
	pair, err := splice.Get()
	if err != nil {
		return nil
	}
	// A range that is not aligned to pages takes one more.
	if pair.Grow(int(n)+os.Getpagesize()) == nil {
		if got, err := pair.LoadFromAt(uintptr(fd), int(n), pos); err == nil && got == int(n) {
			return &pipeReply{f, off, got, pair}
		}
	}
	splice.Done(pair)
	return nil
}

func (r *pipeReply) Size() int { return r.n }

func (r *pipeReply) Done() {
	splice.Done(r.pair)
	pipes.Add(-1)
}

// Stateful is go-fuse's statefulResult: where to splice from.
func (r *pipeReply) Stateful() (fd uintptr, size int) { return r.pair.ReadFd(), r.n }

// Bytes is asked for when the second splice failed, which may have taken bytes
// out of the pipe.
func (r *pipeReply) Bytes(buf []byte) ([]byte, fuse.Status) {
	if _, err := r.file.readFull(buf[:r.n], r.off); err != nil {
		return nil, status(err)
	}
	return buf[:r.n], fuse.OK
}
