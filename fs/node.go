package fs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is one file or folder. It does not change once it is made; what changes of a
// disk that is written is its content's, and partitions are found when first looked for.
type node struct {
	id    uint64 // FUSE node id: index in tree.nodes plus one
	ino   uint64
	name  string
	path  string // inside the mount, for messages
	mode  uint32 // type and permissions
	mtime time.Time
	nlink uint32

	parent   *node
	children []*node          // of a folder, in listing order
	index    map[string]*node // the same by name
	listing  func() []*node   // of a folder: the children, and partitions
	content  content          // of a file
	route    *route           // of a disk or partition nobody writes to

	partitions *partitions // of a disk; nil where there is no folder for them
	shown      *partitions // in this folder
}

// content is what a file holds.
type content interface {
	size() int64
	allocated() int64 // bytes, for st_blocks
	// direct: the kernel must not cache, and read may answer fewer bytes.
	direct() bool
	// read answers size bytes at off, or fewer at the end of the file only. buf
	// is the request's own and as long as the request.
	read(buf []byte, off int64) (fuse.ReadResult, error)
	// seek is SEEK_DATA or SEEK_HOLE; ENXIO when there is nothing.
	seek(off int64, hole bool) (int64, error)
}

func (n *node) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

// writable is the content of a disk that can be written, nil for all other nodes.
func (n *node) writable() *writableFile {
	f, _ := n.content.(*writableFile)
	return f
}

// attrTime is how long the kernel may keep the attributes.
func (n *node) attrTime() time.Duration {
	switch n.content.(type) {
	case *writableFile, *writtenPart:
		return writableAttrTime
	case *infoFile:
		return 0
	}
	return cacheTime
}

// owner is what all nodes have in common.
type owner struct{ uid, gid uint32 }

// attr fills in the attributes of n.
func (n *node) attr(o owner, out *fuse.Attr) {
	out.Ino = n.ino
	out.Mode = n.mode
	out.Nlink = n.nlink
	out.Uid, out.Gid = o.uid, o.gid
	out.Blksize = blockSize
	mtime := n.mtime
	switch f := n.content.(type) {
	case *writableFile:
		mtime = f.modified()
	case *writtenPart:
		mtime = f.whole.modified()
	}
	out.SetTimes(&mtime, &mtime, &mtime)
	if n.content != nil {
		out.Size = uint64(n.content.size())
		out.Blocks = uint64(n.content.allocated()+511) / 512
	}
}
