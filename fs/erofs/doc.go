// Package erofs has the kernel serve a file that is scattered over others.
//
// EROFS, a read-only file system of the kernel, can describe a file whose chunks lie
// at any block of other files, its devices. So an image of it that holds one file and
// a table of where its chunks are turns the map of a disk into a file that the kernel
// reads by itself. [NewPlan] looks at the map and chooses sizes, [Plan.WriteTo] writes
// the image; both need no privileges. [Mount] and [Clone] are the system calls.
//
// # The image
//
//	byte 1024     superblock (128 bytes)
//	byte 1152     device table, 128 bytes a device; chunks name them from 1 on
//	then          inode of the root folder, 64 bytes
//	next block    the folder: ".", ".." and "disk"
//	next block    inode of the file, 64 bytes, and its table of 8 bytes a chunk
//	next block    chunks that were copied
//
// Everything is little-endian. Blocks are 512 or 4096 bytes, and chunks a power of
// two of them. A chunk is a hole or lies in one piece in one device at a multiple of
// the block size; one that does not, because the map changes within it or its place
// is not aligned, is copied behind the table, as far as [MaxCopy] goes. The plan weighs
// large chunks against copies. Source: the kernel's fs/erofs/erofs_fs.h and
// https://erofs.docs.kernel.org.
//
// # What the kernel does
//
// It fills pages from the page cache of the devices. Behind the end of a device it may
// read zeros, so no extent may reach behind it: NewPlan refuses those.
//
// There is no O_DIRECT: the file is read through its page cache.
//
// Mounts are never attached to the tree of mounts. A mount is gone with the last
// descriptor of the file in it, also when the process is killed. Locks: none.
package erofs
