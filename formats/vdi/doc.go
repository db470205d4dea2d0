// Package vdi reads and writes VirtualBox disk images, versions 0.2 and 1.x, and
// creates dynamic, fixed and differencing ones of version 1.1.
//
// # Layout, version 1.x (all integers little endian)
//
//	  0  64  banner, informational
//	 64   4  signature 0xBEDA107F
//	 68   4  version, major << 16 | minor
//	 72   4  header size from here: 400, or 384 without LCHS (older, QEMU)
//	 76   4  type: 1 dynamic, 2 fixed, 3 undo (refused), 4 differencing
//	 80   4  flags: bit 0 zero-expand
//	 84 256  comment, UTF-8, NUL terminated
//	340   4  offset of the block map
//	344   4  offset of block slot 0
//	348  16  PCHS and bytes per sector
//	368   8  disk size, bytes
//	376   4  block size, bytes, a power of two
//	380   4  extra bytes before each block's data
//	384   4  blocks, entries in the map
//	388   4  blocks allocated
//	392  64  UUIDs: image, modification, parent, parent's modification
//	456  16  LCHS, with the 400-byte header
//
// Version 0.2 has the type at 72, no extra data, no parent modification UUID, and
// its map right behind the header at 420, the data right behind the map.
//
// A map entry is 0xFFFFFFFF (free), 0xFFFFFFFE (zero) or a slot number n: the
// data lie at data + n*(extra+block) + extra.
//
// # What is checked
//
// Everything VirtualBox checks at open, and what it does not: every map entry is
// read once at open. An entry that leads past the end of the file is damage (the
// range is Lost, the part of a torn slot inside the file is not); two entries of
// one slot are a warning, because reading stays well defined. The allocated count
// of the header is not trusted, as VirtualBox tolerates a wrong one too.
//
// # Decisions
//
// A disk size that is no multiple of 512 is rounded down, as VirtualBox does (QEMU
// rounds up). Type and parent UUID should agree; either makes an image
// differencing, and one that names no parent lacks it. Undo images (type 3) are
// refused: no tool is known that makes or reads them.
//
// # What is written, and in which order
//
// Besides blocks, three things change: map entries (four bytes each, never across
// a sector), the header's count of allocated blocks with the modification UUID
// (one write inside the first sector), and the length of the file. The header
// keeps its size, and all else of it its value.
//
//	Begin    barrier; the file ends behind the last slot in use; count, UUID; barrier
//	Reserve  a free slot, all of it zeros; nothing leads there
//	Prepare  the file reaches to the end of every reserved slot; the count is no less
//	         (barrier, by the chain)
//	Publish  the entries
//	         (barrier, by the chain), then Release of the slots they left
//	Finish   copies of the last slots in the free ones; barrier; their entries;
//	         barrier; the count, and the file ends behind the last slot; sync
//	         (in batches: one is copied while the one before becomes durable)
//
// The count comes before the entries because VirtualBox appends at it: an entry
// beyond would lead to a block VirtualBox overwrites. Where this program appends
// follows from the map alone.
//
// Slots nothing leads to are found at open, and used before the file grows, so that
// slot numbers stay below the number of blocks. A fixed image keeps its blocks:
// discarding punches them, and its file is never cut. Closing the gaps can be stopped:
// then Finish leaves them, as a crash would.
//
// # Resizing
//
// All a new capacity changes of the header (offsets of map and data, disk size, blocks,
// count, geometry) lies in its first sector, which one write makes new. Before that,
// everything it will lead to is made where the old header leads to nothing:
//
//	grow    zeros behind the end of the disk in its last block; if the map does not fit
//	        where it is, or before that: the blocks in the first slots move to others
//	        (barrier, entries, barrier), and the new map, with the numbers of slots
//	        counted from where the data will begin, is written behind the old one, over
//	        those slots; barrier; header; barrier
//	shrink  entries of what is cut off become zero; barrier; the gaps are closed, so that
//	        no slot number is beyond the blocks that stay; header; barrier
//
// The map need not lie where VirtualBox would have put it: it reads the offsets. A
// growing map takes the first slots of any number, also more than there are.
// A power cut leaves the old disk or the new one. While blocks are on the move there may
// be more slots than blocks: VirtualBox does not open the image then, where writing
// would destroy it; the next session puts that right, or the resize goes on. A
// geometry that is unset stays so, and one that makes no sense is unset. Version 0.2,
// whose data begin where the map ends, keeps its number of blocks.
//
// # Changing the header
//
// Comment, UUIDs and geometry lie in the first sector, and Edit writes that once. The
// short header becomes the long one for an LCHS, if the map begins behind that. PCHS
// is what VirtualBox calls the legacy geometry: it keeps it and does not show it.
//
// # What a crash leaves
//
// Slots nothing leads to, in a file that is too long, and a count that is too high:
// space lost until the next session, which cuts the tail at Begin and closes the
// gaps at Finish. Every entry leads to a whole block at any time. qemu-img check
// finds fault with the count of such an image. VirtualBox opens it and appends at
// the count; when it fills the whole disk so, the count passes the number of blocks
// and VirtualBox 7.2 does not open the image again (tried). A session of this
// program puts that right too.
//
// # New images
//
// As VirtualBox lays them out: map at 1 MiB, data at the next MiB behind it, the
// header of 400 bytes. A fixed image has slot n for block n and all of its space from
// the start; the space is reserved rather than written where the file system can, and
// reads as zeros. VirtualBox 7.2 keeps no PCHS in a VDI (it shows the LCHS alone, and
// derives the rest from the size), so a new image has none unless it is asked for, and
// no LCHS either. The header is written when everything else is on the disk: a file
// that a crash left half-made has no signature.
//
// # Repair
//
// Check and repair judge an image by the same rules (mender; docs/check-codes.md lists
// them), and the map decides what is in use. A block whose entry leads nowhere, or to
// a slot that an earlier block has, becomes free; a torn slot keeps what is in the
// file; slots nothing leads to are given back as Finish does.
//
//	the file reaches to the end of the last slot in use; barrier
//	bad entries become free; barrier
//	copies of the last slots in the free ones; barrier; their entries; barrier
//	the header's fields, in one write inside the first sector; barrier
//	the file ends behind the last slot in use
//
// # What is not written
//
// Images with damage or shared slots, a map that is not aligned to four bytes, or more
// entries than blocks: ErrReadOnly.
package vdi
