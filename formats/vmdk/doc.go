// Package vmdk reads VMware disk images as VMware, VirtualBox and QEMU write them.
// It does not write.
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
// 16 MiB of them, since all would mean reading the file, and as much of those that
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
// [vdfs/vdcore.Tables]. Image.Files()[0] is always the file that was opened, also when
// it is a mere text.
//
// Formats: VMware "Virtual Disk Format 5.0" for hosted files; COWD and seSparse
// are known from open implementations, and are compared with QEMU's in the tests.
package vmdk
