package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
)

// SetAttr changes times and nothing else. A disk has a fixed size, and the owner and
// modes are the mount's options. It is EPERM then and not EROFS, because the file can
// be written, and whoever reads "read-only file system" would look for the wrong cure.
//
// open's O_TRUNC comes here too, as a new size of 0: the kernel leaves it to open
// itself only with CAP_ATOMIC_O_TRUNC, which go-fuse does not ask for.
func (r *rawFS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := r.node(in.NodeId)
	f := n.writable()
	if f == nil {
		return fuse.EROFS
	}
	if size, ok := in.GetSize(); ok && size != uint64(f.size()) {
		return fuse.EPERM
	}
	if in.Valid&(fuse.FATTR_MODE|fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		return fuse.EPERM
	}
	if t, ok := in.GetMTime(); ok {
		f.touch(t)
	}
	out.SetTimeout(n.attrTime())
	n.attr(r.owner, &out.Attr)
	return fuse.OK
}
