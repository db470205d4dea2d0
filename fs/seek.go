package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

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

// seek calls everything data as long as somebody may have the disk mapped for
// writing. What is changed through a mapping is in the kernel's pages only until they
// are written back, at the latest when the mapping goes; a map that does not know of
// it shows a hole, and copied by its holes the disk would lose it. To have the kernel
// give up its pages of a hole is no way out: a write that is on its way to the daemon
// has its pages in the cache already, and who reads in between would fill the cache
// with what was there before, for good.
func (f *writableFile) seek(off int64, hole bool) (int64, error) {
	switch {
	case f.mappable.Load() == 0:
		return f.diskFile.seek(off, hole)
	case hole:
		return f.size(), nil
	}
	return off, nil
}
