package fs

import (
	"cmp"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vdfs/vdcore/evidence"
)

// kindBits are those of a handle that say how a disk is read; above them is the number
// the audit file knows the open file by.
const kindBits = 2

// Open counts the open files of a disk by its handles; a node is all a read or write
// needs.
func (r *rawFS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n := r.node(in.NodeId)
	st := r.open(n, in, out)
	if st == fuse.OK {
		by := evidence.Caller{UID: in.Uid, GID: in.Gid, PID: in.Pid}
		out.Fh |= r.options.Audit.Opened(cmp.Or(n.path, "."), access(in.Flags), by) << kindBits
	}
	return st
}

// access says in a word what a file is opened for.
func access(flags uint32) string {
	switch flags & unix.O_ACCMODE {
	case unix.O_WRONLY:
		return "write"
	case unix.O_RDWR:
		return "read-write"
	}
	return "read"
}

func (r *rawFS) open(n *node, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	truncates := in.Flags&unix.O_TRUNC != 0 // seen only by kernels told to leave it to us
	writes := in.Flags&unix.O_ACCMODE != unix.O_RDONLY || truncates
	switch {
	case writes && n.writable() == nil:
		return fuse.EROFS
	case truncates:
		return fuse.EPERM // as in SetAttr
	case in.Flags&unix.O_ACCMODE == unix.O_WRONLY:
		out.OpenFlags = r.writeOnly
	case writes:
		n.writable().mappable.Add(1)
		out.OpenFlags = writeFlags
	case n.content != nil && n.content.direct():
		if f, ok := n.content.(*infoFile); ok {
			f.look()
		}
		if f, ok := n.content.(*writtenPart); ok {
			f.opens.Add(1)
		}
		out.OpenFlags = directFlags
	case n.route != nil:
		return r.openRouted(n, in, out)
	default:
		out.OpenFlags = openFlags
	}
	return fuse.OK
}

func (r *rawFS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	n := r.node(in.NodeId)
	if f := n.writable(); f != nil && in.Flags&unix.O_ACCMODE == unix.O_RDWR {
		f.mappable.Add(-1)
	}
	if f, ok := n.content.(*writtenPart); ok {
		f.opens.Add(-1)
	}
	if n.route != nil {
		n.route.release(in.Fh & (1<<kindBits - 1))
	}
	r.options.Audit.Closed(in.Fh >> kindBits)
}

func (r *rawFS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	r.yield()
	reply, err := r.node(in.NodeId).content.read(buf, int64(in.Offset))
	return reply, status(err)
}
