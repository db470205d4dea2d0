// Package fs shows chains as flat raw files through FUSE. It is the only
// importer of go-fuse.
//
// # What it promises
//
//	MOUNTPOINT/
//	  <name>/               one folder a chain
//	    disk.raw            the disk as the topmost image shows it
//	    info.json           what the chain is made of
//	    snapshots/          every lower state, "<n>-<layer>.raw", 0 is the base;
//	                        empty when the chain has one layer
//
// A mountpoint that is a regular file shows disk.raw itself.
//
// Nothing can be written: the mount is MS_RDONLY, and whoever remounts it
// read-write gets EROFS from every request all the same. A read returns all the
// bytes asked for up to the end of the disk, or an error: the kernel takes a
// short reply for the end of the file and fills up with zeros, so a range of
// which one byte is lost fails as a whole. A disk with lost ranges is opened for
// direct I/O instead, where a short reply is a short read: what is good can be
// read up to the byte. Inode numbers depend on the path only. Attributes never
// change while mounted, which is why the kernel may keep them.
//
// # Tree
//
// The tree is built before mounting and never changes: a slice of nodes, a
// node's FUSE id is its index plus one, and Forget has nothing to do. So there is
// no lock and no lookup on the way of a read. This is also why the package
// serves go-fuse's raw protocol and not its node tree: that one insists on a
// folder as root, takes two locks a request, and allocates a context for each.
// What a node can only tell by work (allocated size, the text of info.json) it
// computes once, when first asked.
//
// # Descriptors
//
// The chains hold the image files; [vdfs/vdcore/storage] says how many at a
// time. A spliced reply pins its file until the pipe is filled and keeps the pipe
// until go-fuse calls Done, after the bytes have left; pipes are go-fuse's and
// pooled. The connection to the kernel is held by go-fuse and close-on-exec. Files
// opened inside the mount hold nothing.
//
// # Locks
//
// readErrors.mu guards the memory of what was logged, and nothing is called
// under it but the logger. Server has none: done is closed once, after the
// chains are.
//
// # The process
//
// Mount raises GOMAXPROCS, see leaveProcs: it is meant for a process that does
// little else.
//
// # A process never touches its own mount
//
// It could wait for itself. So the mountpoint is resolved before mounting, never
// stat'ed after it, the device number is read from /proc/self/mountinfo, and
// go-fuse's WaitMount, which opens a file in the mount, is not called: a request
// made before Serve runs waits in the kernel.
package fs
