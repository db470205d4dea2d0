// Package fs shows chains as flat raw files through FUSE. It is the only
// importer of go-fuse.
//
// # What it promises
//
//	MOUNTPOINT/
//	  <name>/               one folder a disk
//	    disk.raw            the disk as the topmost image shows it
//	    p1.raw, p2.raw …    its partitions, by the numbers Linux gives them
//	    info.json           what the chain is made of
//	    snapshots/          every lower state, "<n>-<layer>.raw", 0 is the base, with
//	                        a folder "<n>-<layer>" for its partitions; empty when
//	                        the chain has one layer
//
// A layer that is the state of a machine's snapshots is called after them, and has
// their times; snapshots on branches ([Source].Branches) are in the same folder.
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
// The partitions of a disk that is written cannot be written themselves. They are read
// past the page cache, so that they show what a write to the disk has just changed; and
// as they may be mapped all the same, which takes pages, the kernel is told to drop those
// before the write returns (see renew).
//
// # The three paths of a read
//
// A disk nobody writes to, lower states included, is read in the best way there is,
// which is looked for right after mounting, behind, or when a lower state is first
// opened (see route):
//
//   - The image's own file, where that is the disk byte for byte (raw, one flat
//     extent). The kernel gets it as the file to pass reads through to.
//   - A file of the kernel's own: [vdfs/fs/erofs] describes the disk to EROFS, with
//     the image files as devices, and that file is passed through to. Compressed
//     grains, and what is not aligned, are copied for it, up to 64 MiB. All maps of a
//     mount are bounded, and made one after the other (see limits).
//   - Requests, which this process answers: where the kernel cannot (before Linux
//     6.12, without CAP_SYS_ADMIN, images in a mount of vdfs), where parts of the
//     disk are lost, where there is too much to copy, and for O_DIRECT, unless the
//     first path is taken.
//
// info.json says which, and why; at debug level the log does. The kernel opens the
// image files through detached clones of their mounts that are read-only and move no
// access time. Nothing of this is to be seen in the table of mounts, and all of it is
// gone with this process's descriptors. SEEK_DATA, stat and the like come here on all
// paths.
//
// An image that is cut short while it is mounted, by somebody who ignores the locks,
// reads as EIO on the second path too (seen with 6.18). On the first the kernel reads
// what there is of the file, fewer bytes or more: that it has the disk's size is
// checked once.
//
// A disk that is written is not passed through, not even a raw one: a write beyond its
// end would make the image longer instead of failing.
//
// All open files of one node must be read past its page cache, or none. So while one
// is read by request, because the map was not ready or O_DIRECT was asked for, all
// others are; and O_DIRECT beside the kernel's map is given another node, the twin,
// which only who comes by its name can be.
// A file opened without O_DIRECT cannot be switched to it later (fcntl, losetup
// --direct-io=on of a device that is there): its reads fail then.
//
// # Who uses it
//
// The audit file is told of every open and close, also of what is passed through, as
// these requests come here. A close has no sender, so the low bits of a handle say how
// a disk is read and the rest by which number its open is known there. What Ending does
// is done when nobody can read any more and the images are locked still.
//
// # Tree
//
// The tree is built before mounting and never changes: a slice of nodes, a
// node's FUSE id is its index plus one, and Forget has nothing to do. So there is
// no lock and no lookup on the way of a read.
//
// What is found later are partitions: a disk's table is read when somebody first lists
// the folder they are shown in, or looks up a name one of them would have, so that a
// mount of hundreds of layers begins without reading hundreds of tables. Each disk has
// a list of nodes for them, set once (sync.Once: the first ones wait while the table is
// read, after that it is one atomic load) and the same until the mount ends; their ids
// are the disk's, with the place in the list above bit 32, so none has to be kept free.
// To whoever looks from outside, they were there from the beginning. A table that could
// not be read shows no partitions, and info.json says why. That of a disk that is
// written is read before mounting, and shows how the disk was partitioned then.
//
// This is also why the package
// serves go-fuse's raw protocol and not its node tree: that one insists on a
// folder as root, takes two locks a request, and allocates a context for each.
// What a node can only tell by work (allocated size, what info.json says of the chain)
// it computes once, when first asked.
//
// # Descriptors
//
// The chains hold the image files; [vdfs/vdcore/storage] says how many at a
// time. A spliced reply pins its file until the pipe is filled and keeps the pipe
// until go-fuse calls Done, after the bytes have left; pipes are go-fuse's and
// pooled, and bounded where the process may not have many descriptors. A disk that is written is never spliced. The connection to the kernel is held by go-fuse and close-on-exec. Files
// opened inside the mount hold nothing. The kernel's map of a disk holds the image
// files open in the kernel, and one descriptor here, until the mount ends.
//
// # Locks
//
// ioErrors.mu guards the memory of what was logged, and nothing is called
// under it but the logger and the audit file. route.mu guards who reads how; the kernel is told of a file
// under it, and nothing else is called. twins.mu and infoFile.mu are taken last. Server
// has none: done is closed once, after the chains are. reasons.mu is like ioErrors.mu.
// limits.mu is held while a map is made, before all of these. partitions.once runs with
// none of them held, and takes the core's own. Reads and writes of a disk go to the core as they come; it is made for
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
