// Package contents says what lies on a disk: its partitions, and by their signatures
// the file systems and containers in them.
//
// # What it promises
//
// [Table] reads the partition table, and [Read] the signatures too, from any
// io.ReaderAt. Neither fails: a disk without a table is a disk with a note, and so is
// one whose table is damaged, loops, or cannot be read. Nothing is written, and nothing
// is kept. There are no locks; two calls at a time are as good as the reader is.
//
// Tables are GPT and MBR, of 512 and of 4096-byte sectors. Partitions have the numbers
// Linux gives them: the entry of a GPT, 1 to 4 for the primary ones of an MBR and 5 up
// for the logical ones, in the order of their chain. A GPT counts where the MBR has an
// entry of type 0xEE, hybrid or not, as for Linux, and where there is no MBR at all; its
// backup is used where the primary one is damaged, unless a file system or container
// was put over that and the MBR.
//
// # Untrusted input
//
// A disk is what somebody else wrote. Every position is checked against the size of the
// disk; a table of partitions takes 1 MiB of memory at most, there are 255 of them at
// most (Linux has numbers for no more), a chain of logical partitions is left when it
// comes back to where it was, and a signature is a bounded number of reads of at most
// 64 KiB. Text from the disk is passed on as it is, but for bytes that are no UTF-8;
// who prints it makes it fit.
//
// # Why it is written here
//
// Libraries were looked at. go-diskfs reads GPT, but allocates what the header asks
// for, takes an error of reading for the end of it, and has no logical partitions.
// go-blockdevice knows a part of the signatures (no btrfs, NTFS, exFAT, BitLocker), no
// MBR, and wants an *os.File, where all there is here is a map of several.
//
// # Sources
//
// UEFI 2.10, chapter 5 (GPT and its MBR); the kernel's block/partitions/msdos.c for
// logical partitions; the on-disk format pages or headers of each file system, which
// stand with each signature. The words for types are those of blkid.
package contents
