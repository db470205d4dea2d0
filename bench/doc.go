// Command bench measures vdfs beside its peers and prints medians and ratios.
//
// Every figure is taken in one run, interleaved with those of the peers, for
// several rounds; what is printed is the median. Absolute times of one machine say
// little: the lines below the tables give the ratios that vdfs is held to. It needs
// root, for the kernel path and loop devices, and a machine that does nothing else.
// All of it takes the better part of an hour, 20 GiB of disk and, so that the images
// stay in the page cache, 20 GiB of memory.
//
// Before anything is timed that fills memory, as much of it is taken and given back
// (touchMemory): otherwise the figures would be those of a virtual machine's host, which
// takes free memory away and brings it again. That is not enough where the guest's kernel
// reports what is free to the host by itself (page reporting): as long as it does, first
// reads show a fifth of their speed, and now and then all of it.
//
// What the disk itself is waited for are the raw file's O_DIRECT reads and whatever is
// synced.
//
// The parts, of which -only selects one:
//
//   - table: reading, for each of the images, through each of the contenders
//   - deep: a chain of 500 layers beside a single image
//   - empty: disks of 2 TiB that hold nothing
//   - write: writing, beside qemu-storage-daemon
//   - convert: making other formats, beside qemu-img convert
//   - compact: making a VDI smaller, beside VBoxManage
//
// A contender that is not installed says so in its column. One that cannot show an
// image, or shows something else than its content, has a dash there, and a note
// below says why. All contenders are checked before anything is timed; wrong data
// from vdfs ends the run.
//
// vboximg-mount shows a disk with a partition table only, which is why there is one,
// and a chain only if VirtualBox's media registry knows the parents. They are not
// registered here, so it has no figures for chains.
//
// The images are made here, by qemu-img and, for chains, by vdfs itself: QEMU
// cannot make those of VDI. All show the same disk.
//
// Peers in a chroot, as VirtualBox may be, are run by the command that -via names,
// which is put in front of theirs. It must keep the paths of the folder -dir
// names, but need not keep their mounts there: those are found in
// /proc/self/mountinfo. Peers that are not in the chroot are taken from outside.
// The time the command itself takes counts as theirs, in the time to mount.
//
//	bench -via vb -dir /tmp/vbx/bench bin/vdfs
package main
