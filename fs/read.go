package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Open hands out no handle: a node is all a read needs.
func (r *rawFS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&unix.O_ACCMODE != unix.O_RDONLY || in.Flags&unix.O_TRUNC != 0 {
		return fuse.EROFS
	}
	out.OpenFlags = openFlags
	if c := r.node(in.NodeId).content; c != nil && c.direct() {
		out.OpenFlags = directFlags
	}
	return fuse.OK
}

func (r *rawFS) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// Flush is sent by kernels that do not know FOPEN_NOFLUSH.
func (r *rawFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Fsync of a file nobody can write is done.
func (r *rawFS) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

func (r *rawFS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	r.yield()
	reply, err := r.node(in.NodeId).content.read(buf, int64(in.Offset))
	return reply, status(err)
}

// Lseek is asked for SEEK_DATA and SEEK_HOLE only, the kernel does the rest.
func (r *rawFS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
		return fuse.EINVAL
	}
	n := r.node(in.NodeId)
	if n.content == nil {
		return fuse.EINVAL
	}
	off := int64(in.Offset)
	if off < 0 || off >= n.content.size() {
		return fuse.Status(unix.ENXIO)
	}
	at, err := n.content.seek(off, in.Whence == unix.SEEK_HOLE)
	out.Offset = uint64(at)
	return status(err)
}
