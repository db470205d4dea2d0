package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// rawFS answers the kernel's requests from a tree.
type rawFS struct {
	readOnly // refuses everything that changes something and is not said otherwise
	*tree
	yielder
	twins
	kernel    kernel // nil in tests
	writeOnly uint32 // flags of files that are opened to be written only
}

// kernel is what the file system asks of the kernel; go-fuse's server passes it on.
type kernel interface {
	// InodeNotify has the kernel forget its pages of a range.
	InodeNotify(node uint64, off, length int64) fuse.Status
	// RegisterBackingFd names a file the kernel may read itself. It keeps the file
	// until the connection ends.
	RegisterBackingFd(m *fuse.BackingMap) (int32, syscall.Errno)
}

func (r *rawFS) String() string     { return Subtype }
func (r *rawFS) SetDebug(bool)      {}
func (r *rawFS) OnUnmount()         {}
func (r *rawFS) Forget(_, _ uint64) {}

// Init is called before the first request that can need the server.
func (r *rawFS) Init(s *fuse.Server) {
	r.kernel = s
	r.writeOnly = writeFlags
	if s.KernelSettings().Minor >= writeOnlyMinor {
		r.writeOnly = writeOnlyFlags
	}
}

func (r *rawFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n := r.node(h.NodeId).find(name)
	out.SetEntryTimeout(cacheTime)
	if n == nil {
		return fuse.OK // node id 0: the kernel may remember that there is none
	}
	out.NodeId = n.id
	if n.route != nil && r.twins.wanted(h.Pid) {
		out.NodeId = r.twin(n)
		out.SetEntryTimeout(0)
	}
	out.SetAttrTimeout(n.attrTime())
	n.attr(r.owner, &out.Attr)
	return fuse.OK
}

func (r *rawFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := r.node(in.NodeId)
	out.SetTimeout(n.attrTime())
	n.attr(r.owner, &out.Attr)
	return fuse.OK
}

// StatFs shows a full file system as large as its disks.
func (r *rawFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize = blockSize, blockSize
	out.Blocks = r.blocks
	out.Files = uint64(len(r.nodes))
	out.NameLen = 255
	return fuse.OK
}
