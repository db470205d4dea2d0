package fs

import (
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Fallocate punches holes and allocates. A loop device makes BLKDISCARD a punched
// hole, and BLKZEROOUT a range to be zeroed, or a hole where it may.
func (r *rawFS) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	n := r.node(in.NodeId)
	f := n.writable()
	if f == nil {
		return fuse.EROFS
	}
	off, length := int64(in.Offset), int64(in.Length)
	if off < 0 || length <= 0 || length > math.MaxInt64-off {
		return fuse.EINVAL
	}
	inside := min(off+length, f.size()) - off // what lies behind the end is zeros, and stays so
	switch in.Mode {
	case unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE:
		return r.discard(n, f, off, inside)
	case unix.FALLOC_FL_KEEP_SIZE:
		return allocate(f, off, inside)
	case unix.FALLOC_FL_ZERO_RANGE, 0:
		if inside < length {
			return fuse.Status(unix.EFBIG) // it would make the disk larger: beyond the largest size this file can have
		}
		if in.Mode == 0 {
			return allocate(f, off, inside)
		}
		return r.discard(n, f, off, inside)
	}
	return fuse.Status(unix.EOPNOTSUPP)
}

// discard makes a range zeros, for ZERO_RANGE too: whether its space is given up or
// kept is nothing the mode says, and images are there to be small.
func (r *rawFS) discard(n *node, f *writableFile, off, length int64) fuse.Status {
	if length <= 0 {
		return fuse.OK
	}
	err := f.discard(off, length)
	r.renew(n, off, length)
	if err != nil && r.kernel != nil {
		// Some of it may be gone. The kernel drops its pages only when all is. It lets
		// nobody write meanwhile.
		r.kernel.InodeNotify(n.id, off, length)
	}
	return status(err)
}

func allocate(f *writableFile, off, length int64) fuse.Status {
	if length <= 0 {
		return fuse.OK
	}
	return status(f.allocate(off, length))
}
