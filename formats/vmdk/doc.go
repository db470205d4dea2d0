// Package vmdk reads VMware disk images as VMware, VirtualBox and QEMU write them,
// writes to those made of hosted sparse and flat extents, and makes new ones.
//
// An image is a text descriptor and the extents its lines name, one after the
// other. The descriptor is a file of its own or lies inside a sparse extent.
//
//	createType                              extents
//	monolithicSparse                        the file itself (SPARSE)
//	monolithicFlat                          one -flat.vmdk (FLAT)
//	twoGbMaxExtentSparse, 2GbMaxExtent…     -s001.vmdk … (SPARSE)
//	twoGbMaxExtentFlat, 2GbMaxExtent…       -f001.vmdk … (FLAT)
//	streamOptimized                         the file itself (SPARSE), compressed
//	vmfs, vmfsThin, vmfsPreallocated, …     one -flat.vmdk (VMFS)
//	vmfsSparse                              one -delta.vmdk (VMFSSPARSE, COWD)
//	seSparse                                one -sesparse.vmdk (SESPARSE)
//	custom, any other word                  what the lines say, ZERO included
//	fullDevice, vmfsRDM, …                  refused: a host device or a LUN
//
// # Layout of the files with tables
//
// All integers are little endian. A directory leads to tables, a table to grains.
//
//	             hosted (KDMV)         COWD              seSparse
//	header       512 bytes, sector 0   2048 bytes        512 bytes, and a volatile one
//	positions    sectors, u32          sectors, u32      u64: kind in the top bits, index
//	grain        8 sectors … 1 GiB     1 sector … 1 GiB  8 sectors
//	table        128 … 4096 entries    4096 entries      4096 entries
//	entry 0      free                  free              free
//	zeros        entry 1 (flag 0x4)    –                 kind 1 (unmapped) and 2
//	spare copy   of both levels        –                 –
//
// A compressed grain is a record: its sector in the extent (u64), the length of
// the zlib stream (u32), the stream, padding to a sector. streamOptimized files
// come with the directory's position in the header (QEMU) or in a footer, a copy
// of the header before the last sector (VMware, VirtualBox).
//
// # Quirks
//
//   - The guest size of an extent is its line's. VirtualBox rounds the header's up
//     to 64 KiB; one that is smaller than the line leaves the rest lost.
//   - QEMU skips every line that is not RW, and ZERO lines, which shifts what
//     follows. Here they count, as in VirtualBox. NOACCESS is unreadable there
//     too: it is damage, so that only --allow-incomplete opens the rest.
//   - A file does not learn of being renamed: the only SPARSE line of an embedded
//     descriptor means its own file, whatever name it has.
//   - A CID need not have eight digits. The key CID is not found in parentCID.
//     Keys that decide identity may not be given twice with different values.
//   - Two worlds name parents. VirtualBox leaves parentCID at "none" and writes
//     ddb.uuid.parent; VMware and QEMU write parentCID and a file name. The UUID
//     wins where both are set. A file name alone makes an image a child too, one no
//     parent fits: it is not shown as a disk of zeros.
//   - The last grain of a compressed extent may unpack to what the extent has left
//     (VMware); any other one that unpacks short is damaged.
//   - The flag for an unclean shutdown is a note: VirtualBox forgets it often.
//   - Names not found as they are, in a descriptor of windows-1252 or Latin-1, are
//     tried in UTF-8. Other encodings are only looked for byte for byte.
//
// # What is promised
//
// Right or refuse. Opening reads every table once (holes skipped, tables in
// bounded memory). A table outside the file is replaced by its redundant copy, with
// a warning. What leads nowhere (past the end of the file, into the header, the
// descriptor or the tables; a missing or short file) is Lost in the map and
// listed in Info.Damage. Two entries that share a grain are a warning. Directory
// entries that share a table are damage, all of them, since any may be the wrong
// one. Compressed grains are checked when they are read; at open only the first
// 256 KiB of them, since all would mean reading the file, and as much of those that
// share a record.
//
// The holes of flat files are Zero in the map, in units of 64 KiB.
//
// Everything in the files is untrusted: sizes are compared with the file before
// they are used, names are opened through [vdfs/vdcore/storage.FS] only, and are refused when
// they are addresses, Windows paths or devices; work and memory are in proportion
// to the files. Headers of unknown versions or flags, raw device maps, encrypted
// disks and seSparse files with a journal to replay are refused.
//
// Map holds no lock: it reads what verify left behind and table pages from
// [vdfs/vdcore.Tables]. Of an image whose tables hold few runs verify leaves those, and
// they are not read again; one that changes under a reader keeps the map it had. Image.Files()[0] is always the file that was opened, also when
// it is a mere text.
//
// # Writing
//
// Written to are hosted sparse files of version 1 and 2, alone or in pieces, and FLAT
// and VMFS extents. All else is refused when it is opened for that, with the reason:
// compressed grains, COWD, seSparse, ZERO, RDONLY and NOACCESS extents, version 3
// (change tracking), any damage, and whatever shares bytes with something else,
// which claims finds out, where seen may miss a part of it. In flat files the chain
// writes and punches in place; what follows is about the others.
//
// What the [vdfs/vdcore.Writer] does to a file, and in which order:
//
//   - Begin syncs what is there, since a killed process may have left tables that
//     are not on disk; cuts off what lies behind everything in use; sets
//     uncleanShutdown and clears the flag of the redundant directory, but not the
//     directory's place; if the file was not closed before, copies the primary
//     tables over redundant ones that differ; renews the identity; syncs.
//   - Reserve takes the lowest place that nothing leads to (found when the file was
//     opened, or given back since), or one behind all others, aligned to a grain
//     (64 KiB at most), and makes it zeros.
//   - Prepare writes tables of zeros for directory entries that are 0, and makes
//     the file as long as all its places need. The chain syncs.
//   - Publish writes the entries to both sets of tables, and then those of new
//     tables to both directories. The chain syncs.
//   - Finish cuts off free places at the end, clears uncleanShutdown and sets the
//     flag again, syncs.
//
// Without the flag a power cut between the two sets would leave a file that
// VirtualBox refuses (verified, 7.2.22), since it compares them; with it cleared,
// VirtualBox and QEMU both take the file for one that has a single set.
//
// A crash leaves each entry old or new, as one lies in one sector: an entry of a
// table that no directory leads to says nothing, and a directory entry leads to
// zeros at least. It may leave places nothing leads to, at the end until the next
// Begin, in the middle until they are used again; redundant tables that
// differ and are out of use, until the next Begin; and one table that only
// the redundant directory knows, which Begin makes it forget.
//
// The modification UUID (VirtualBox's) and the CID (QEMU's and VMware's) are both
// renewed where they exist, in place and in the same number of characters: nothing
// else of the descriptor is written, and half of an old value with half of a new one
// is still a value. A key given twice cannot be renewed like that and is refused.
//
// # Changing the descriptor
//
// Edit replaces values where they stand and adds missing keys where tools put them;
// all else of the text stays as it is, to the byte. A descriptor file is replaced by a
// new one with its mode and owner (or, in a folder that cannot be written to, in place,
// which a crash may leave half done). One inside an extent is written in three steps:
// behind everything else, with the header's descriptor position set to it; to its
// place in sector 1; and the position set back, each durable before the next. A crash
// leaves a descriptor at the end of the file at most. VirtualBox reads and changes it
// there (tried, 7.2.22); QEMU reads sector 1 whatever the header says, and of it only
// the content ids, which Edit leaves, and the parent's file name. The next Edit brings
// the text back. It may grow into what is free before the first table or grain.
//
// A comment is escaped as VirtualBox does it, in 1023 bytes; when VirtualBox 7.2.22
// reads it, it drops the escapes, also of its own comments (tried). A double quote
// would end the comment there (tried), and is refused.
//
// VirtualBox, QEMU and this package open an image whose only extent line has another
// name than its file; Rename sets that right all the same, but in streamOptimized
// images, of which nothing can be changed in place.
//
// # New images
//
// They are what VirtualBox makes of the same variant, in its words and places, with all
// tables there from the start. Pieces of a split image are of 2047 MiB, and an image
// that is smaller than that is one piece of a split image all the same, where
// VirtualBox makes it monolithic. A streamOptimized one holds no grain and no table: header,
// descriptor, directory, footer. A physical geometry is always written, as VMware and
// QEMU do; VirtualBox leaves it to the first machine that uses the disk.
//
// The file that is opened is made first and filled last, when all others are on the
// disk, so that what a crash left half-made is no image or lacks an extent.
//
// A child is monolithicSparse. It names its parent by UUID, and by CID and file name,
// as far as the parent has these: VirtualBox 7.2 opens what carries both, QEMU follows
// it too. Of a VDI parent only the UUID is told, as QEMU would look for a CID in it.
//
// # Repair
//
// Check and repair judge both sets of tables entry by entry (mender;
// docs/check-codes.md lists the rules). What is new, copies of tables and directories,
// goes behind all that is in use; barrier; entries, each of which is right or wrong by
// itself; barrier; the header's places of the directories and its marks, in one write;
// barrier; the end of the file. A compressed file without its tables gets new ones and
// a footer from a scan of its records (planRebuild).
//
// # Compacting and resizing
//
// Compact moves the last grains of a file into the lowest places nothing leads to: copy,
// barrier, entries in both sets, barrier. Tables stay where they are.
//
// A larger monolithicSparse disk gets new directories behind everything else, which lead
// to the tables there are and to new ones, all of them there from the start, as holes; the
// last of the old tables is copied if its end was not in use. A new descriptor goes behind
// them. After a barrier one write of the header's sector changes capacity, directories and
// the descriptor's place, so a power cut leaves the old disk or the new one. Then the
// descriptor goes back to its place, as after any edit. A smaller disk changes capacity
// and descriptor in the same way.
//
// Of flat extents the last becomes longer or shorter, the file before the descriptor when
// it grows and after it when not. The header of a split sparse piece and the descriptor
// are two files, which no single write changes: those pieces keep their sizes. A larger
// disk gets further pieces, empty and durable before the descriptor names them; a smaller
// one loses whole ones, after it does not any more. What a crash leaves of new pieces is
// taken up by the next try, and nothing follows a piece that ends inside a grain, as QEMU
// goes by the size in its header.
//
// streamOptimized images are written front to back, grain after grain, each table behind
// its grains; only the directory waits in memory. The last grain is filled up with zeros.
//
// Formats: VMware "Virtual Disk Format 5.0" for hosted files; COWD and seSparse
// are known from open implementations, and are compared with QEMU's in the tests.
package vmdk
