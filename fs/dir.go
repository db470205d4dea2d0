package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
)

func (r *rawFS) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (r *rawFS) ReleaseDir(*fuse.ReleaseIn) {}

func (r *rawFS) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

// ReadDir lists from entry in.Offset on. The dots are entries 0 and 1.
func (r *rawFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir := r.node(in.NodeId)
	if !dir.isDir() {
		return fuse.ENOTDIR
	}
	for i := in.Offset; i < uint64(len(dir.listing()))+2; i++ {
		if !out.AddDirEntry(dir.entry(i)) {
			break
		}
	}
	return fuse.OK
}

// ReadDirPlus is not negotiated: it asks for the attributes of every name, which
// are worth work here, when all that is wanted may be the names.
func (r *rawFS) ReadDirPlus(<-chan struct{}, *fuse.ReadIn, *fuse.DirEntryList) fuse.Status {
	return fuse.ENOSYS
}

func (n *node) entry(i uint64) fuse.DirEntry {
	name, e := ".", n
	switch i {
	case 0:
	case 1:
		name, e = "..", n.parent
	default:
		e = n.listing()[i-2]
		name = e.name
	}
	return fuse.DirEntry{Name: name, Mode: e.mode, Ino: e.ino, Off: i + 1}
}
