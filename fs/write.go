package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Write answers a request whole, or up to the end of the disk, or with an error.
// data is the request's own buffer; nothing is copied on the way to the image file.
func (r *rawFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	r.yield()
	f := r.node(in.NodeId).writable()
	if f == nil {
		return 0, fuse.EROFS
	}
	n, err := f.write(data, int64(in.Offset))
	r.renew(r.node(in.NodeId), int64(in.Offset), int64(len(data)))
	if err != nil {
		return 0, status(err)
	}
	return uint32(n), fuse.OK
}

// Writev has go-fuse call Write: a request read from /dev/fuse is in one piece.
func (r *rawFS) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// Flush comes with every close of a descriptor that could write. Before it the
// kernel has written what was changed through a mapping, which is what it is good
// for: an error of that is close's. Nothing is made durable; that is fsync's.
func (r *rawFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Fsync of a file nobody can write is done.
func (r *rawFS) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	f := r.node(in.NodeId).writable()
	if f == nil {
		return fuse.OK
	}
	return status(f.sync())
}
