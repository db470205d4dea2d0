// Package machine reads what describes a virtual machine, and opens its disks with
// their snapshots by name and date.
//
// # What it reads
//
//	.vbox          VirtualBox; see package vbox
//	.vmx, .vmsd    VMware: the machine, and its snapshots
//	.ovf           the standard's description of an exported machine
//	.ova, .box     a tar archive with one of these; nothing is unpacked
//	a folder       with exactly one of these
//
// # What it promises
//
// The files are untrusted. Every length is bounded, and a name in one leads to a regular
// file below the folder it lies in, or a folder the user added, or nowhere: os.Root
// sees to that (package storage). In an archive it leads to a member of that archive.
// Where a disk's image has an identity (VirtualBox), the image found is held to it.
//
// A disk that cannot be found keeps the reason ([Disk].Err); the others can be opened.
//
// # Snapshots
//
// The images of a disk form a tree: the chain of its current state, and branches that
// leave it, where somebody went back to a snapshot and on from there. [Disk.Open] opens
// the former and notes at each layer of which snapshots it is the state
// ([vdcore.Layer].Snapshots). [Disk.Branches] opens what of the latter is needed to
// reach the other snapshots.
//
// A disk that only snapshots have is a disk as well, [Disk].Detached, in the state of
// the newest of them.
//
// # Archives
//
// A member of a tar archive lies there as it is, so it is opened in place: a file
// system ([storage.FS]) whose folder is the archive shows each member as a
// [storage.NewSection]. Only headers are read to find them. It cannot be written to.
//
// A Machine holds no files open, takes no locks, and does not change once it is loaded.
package machine
