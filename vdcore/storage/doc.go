// Package storage is the seam between image formats and the machine: positional
// files, and a file system that only reaches the folders an image may refer to.
//
// # What it promises
//
// A name found inside an image is attacker controlled. [OS] therefore opens
// files only below the folder of the image the user named, the folder above it
// (VirtualBox keeps a VM's base image one level above Snapshots/), and the
// folders the user added with --search; symbolic links that leave those folders,
// devices, pipes, sockets and folders are refused. os.Root does the confining.
//
// Reading leaves no trace: files are opened O_RDONLY and, where the kernel
// allows it, O_NOATIME.
//
// # Names
//
// What gives or takes a name is durable when it returns, and Rename and Link never
// replace a file. [Overwrite] and [NewFile] write a whole file in one step.
//
// # Descriptors
//
// A chain may have hundreds of layers. A [File] of [OS] is a name and an
// identity (device and inode); its descriptor is opened on demand and at most
// [maxIdle] unpinned descriptors stay open, or few where the process may not have many
// (RLIMIT_NOFILE). Pin keeps one open for as long as
// it is needed, for splicing or for layers that are read all the time. A file
// that was replaced between two openings is refused with [ErrChanged].
//
// # Locks
//
// Files are guarded against other programs by shared locks on single bytes, see
// [File] Guard; they outlive descriptors.
//
// osFile.mu guards one descriptor; pool.mu guards the list of idle files. The
// order is osFile.mu before pool.mu, and the pool closes a victim only after it
// has let go of pool.mu.
package storage
