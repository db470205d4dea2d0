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
// disk.raw of a chain that was opened for writing can be written; see Writing.
// Nothing else can: without such a chain the mount is MS_RDONLY, and whoever
// remounts it read-write gets EROFS from every request all the same. A read returns all the
// bytes asked for up to the end of the disk, or an error: the kernel takes a
// short reply for the end of the file and fills up with zeros, so a range of
// which one byte is lost fails as a whole. A disk with lost ranges is opened for
// direct I/O instead, where a short reply is a short read: what is good can be
// read up to the byte. Inode numbers depend on the path only. Attributes never
// change while mounted, which is why the kernel may keep them; those of a disk that
// is written do, and it asks for them each time.
//
// # Writing
//
// Content is all that can be changed. A disk has a fixed size: truncating it to
// another one is EPERM (so is O_TRUNC: dd needs conv=notrunc), allocating beyond it
// EFBIG, a write beyond its end ENOSPC, one that reaches over it short. Punched holes
// and zeroed ranges give their space up. Times can be set and are forgotten with the
// mount; chmod and chown are EPERM.
//
// When a write returns, every reader sees it; when fsync returns, the image has it,
// tables included. close makes nothing durable, and neither does sync(2), which does
// not reach a FUSE daemon. When the mount ends, whoever ended it, the chains are
// closed, which completes the images, and Server.Wait returns the error if that
// failed. An error of an image's file system (ENOSPC, EDQUOT, EFBIG, EIO) is the
// caller's, and logged.
//
// The kernel's page cache is written through (no CAP_WRITEBACK_CACHE). With dirty
// pages in the kernel, ENOSPC would reach nobody before fsync, and the daemon, who
// answers SEEK_HOLE from the map, would call a hole what the kernel holds data for:
// a sparse copy would lose it. The latter would happen with shared mappings all the
// same, so a disk that somebody has open for reading and writing, and may have mapped,
// reports no holes. No request or reply makes the kernel drop pages it may be writing,
// see writableFile.seek.
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
// pooled. A disk that is written is never spliced. The connection to the kernel is held by go-fuse and close-on-exec. Files
// opened inside the mount hold nothing.
//
// # Locks
//
// ioErrors.mu guards the memory of what was logged, and nothing is called
// under it but the logger. Server has none: done is closed once, after the
// chains are. Reads and writes of a disk go to the core as they come; it is made for
// that.
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
