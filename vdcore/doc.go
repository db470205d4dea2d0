// Package vdcore is the core of vdfs: what an image is, how images form a chain,
// and where each byte of a disk lies.
//
// # Architecture
//
// Every image is a map from guest ranges to places. A format ([Backend]) parses
// its metadata and maps; it moves no data and opens no files except through the
// [storage.FS] it is given. A [Chain] stacks images by identity. A [Disk] is the
// content seen from one layer: the flat map of all layers below, and the one read
// routine for all formats. Everything else (FUSE, copying, the map command) is a
// door onto Disk.
//
//	formats/x ── Image.Map ── Chain ── Disk (flat map) ── fs, imgops, cli
//
// An extent is Free (ask the parent), Zero (do not ask), Data (a file and an
// offset), Packed (a compressed record) or Lost. Lost is the core's own word: the
// image knows that it held something and cannot give it back. It exists so that a
// damaged image can be opened at all without a single unknown byte turning into
// zeros: a Lost range fails with [ErrLost] unless the user asked for zeros.
//
// # Right or refuse
//
// Backends check every length and table entry at open and list what cannot be read
// in [Info.Damage]; the chain, in one place (judgeDamage), refuses such an image
// unless [Options.AllowIncomplete] is set. Parents are confirmed by identity
// wherever they were found (see finder). A parent of the right UUID with another
// modification UUID is opened with a warning; another CID is refused.
//
// Parents are searched for one after the other, by their headers, and opened for good
// side by side (layers.go): whatever must be read to check a map, of a long chain on a
// slow disk, is asked for at the same time. What was found without a lock is compared
// with what is there once it is locked. Of several failures the one nearest to the top
// is told.
//
// # Machines
//
// Package machine reads what describes a virtual machine, finds the images of its disks
// and notes at each [Layer] of which snapshots it is the state. The core itself looks
// into VirtualBox's files (package vbox) for parents, and for who else has an image.
//
// # The flat map
//
// It is kept as sorted runs, not as one word for each smallest granule: layers
// with different block sizes and VMDK extents may meet at any sector, terabytes of
// nothing cost one run, and contiguous data one more. The disk is cut into spans;
// each has a leaf, made at first use by walking the layers once, and dropped when
// all leaves of a chain together take more than 32 MiB. A read costs one binary
// search in a leaf, however many layers there are. Table pages of all images share
// a cache of 16 MiB ([Tables]), unpacked units one of 32 MiB, and descriptors are
// opened on demand (package storage); so the memory a chain takes has a bound that
// depends neither on its size nor on its depth.
//
// # Writing
//
// A chain opened with [Options.Write] changes its topmost image and nothing else;
// parents are opened O_RDONLY. A format ([Writer]) keeps its metadata and finds
// places; everything else is done here, once for all formats (type writer):
//
//   - What the topmost image holds is overwritten in place.
//   - A unit (block, grain) it does not hold gets a place at the first write. The
//     bytes go there at once and into the flat map, which then shows a part of the
//     unit in the new place and the rest with the parents. So a sequential writer
//     never reads a parent, nothing is written twice, and no data wait in memory:
//     what is bounded is the number of such fresh units, and of ranges in them.
//   - Zeros over what reads as zeros anyway are not written. Zeros over a whole unit
//     of a parent take an entry and no place, where the format has one for that.
//   - Discarding a whole unit makes it Zero over a parent, Free without one; parts
//     are punched out of the file.
//   - A commit (Sync, or [syncAge] after the first fresh unit, or too many of them)
//     fills fresh units up from the parents, lets the image prepare, first barrier,
//     writes the entries, second barrier, and frees what lost its last entry.
//     Without fresh or discarded units it is one barrier.
//   - Before the first change the image gets a new modification UUID or CID, so
//     that children of what it was are found out.
//
// What an image says of itself is changed by [Chain.Edit], on a chain opened with
// [Options.Hold]: alone, and kept from everybody else as if it were written to. Moving
// and removing its files goes the same way (package imgops).
//
// Compacting ([Chain.Compact]) discards what need not be held, and has the format
// close the gaps ([Compacter]); it leaves the identity alone, as the content is the
// same. Resizing ([Chain.Resize]) sees that nothing is lost, and nothing comes to
// light that was hidden, before it has the format do it ([Resizer]).
//
// A new image nobody relies on yet is filled in another way, by [Filler]: in guest
// order, without barriers until it is whole.
//
// # Crashes
//
// An entry on disk leads to a place only after the place is durable, and a place is
// used again only after no entry on disk leads there. So whatever subset of sectors
// survives a power cut, a unit is as it was before the last commit or after it,
// with sectors overwritten in place old or new; what was synced is there; a
// discarded unit is old or zeros. Leaked at most are the fresh units of one commit:
// they are cut off, or used again, when the image is next opened for writing.
//
// After a barrier failed nobody knows what is on disk, and the kernel reports it
// once: entries that were to follow are not written, every later change fails with
// the same error, reading goes on. Any other error (a full disk) leaves what waits
// as it is, and the next commit tries again.
//
// # Making images
//
// A backend lists what it makes ([Making]) with the options each variant takes, and
// [CreateArgs.Choose] holds every caller to that list. The capability bits of
// VirtualBox's interface follow from it and from the type of the backend's images
// ([Backend.Capabilities]). The files of a new image are kept or removed together
// ([NewFiles]); the one that makes it an image gets its signature or its text last,
// when all else is on the disk.
//
// # Repair
//
// A format plans what mends an image and writes nothing itself ([RepairPlan]): what is
// wrong, each with the code a check tells it by ([Flaw]), the guest ranges whose
// content is gone, and changes of files in steps. imgops saves every byte these replace
// or cut off, makes that durable, and carries them out with a barrier behind each step.
// Entries lead to a place only after it is durable, and no step makes an image worse,
// so an interrupted repair is planned anew and goes on.
//
// # Other programs
//
// Every file of a chain is locked against other programs before it is read, by
// QEMU's protocol (guard.go). Whoever holds a file open for writing without a lock,
// a running VirtualBox machine, is looked for in /proc, unless the kernel knows that
// there is nobody: writing is refused then, and reading comes with a warning.
//
// # Locks
//
// Reads of a disk that is not written take no lock in the common case: leaves are
// immutable and published through atomic pointers. Chain.mu guards the table of
// disks, Tables.mu the page list, unitCache.mu the unit list. None is held while
// another is taken, and none during I/O. A unit being unpacked is waited for on its
// own channel.
//
// To open a chain takes two more, for moments and never together: opener.mu guards the
// parents that wait to be opened, finder.mu the headers read so far.
//
// The written disk has four more, taken in this order:
//
//	writer.commits  one commit or discard at a time, through its I/O
//	writer.gate     shared by every read and write through its I/O; alone by a discard,
//	                and for a moment before freed places are used again: who still
//	                reads or writes them has left then
//	fresh.mu        one write into a fresh unit, or its filling, through its I/O
//	writer.mu       what waits, the image's own methods, and replacing leaves
package vdcore
