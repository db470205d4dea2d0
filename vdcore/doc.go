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
// # Locks
//
// Reads take no lock in the common case: leaves are immutable and published through
// atomic pointers. Chain.mu guards the table of disks, Tables.mu the page list,
// unitCache.mu the unit list. None is held while another is taken, and none during
// I/O. A unit being unpacked is waited for on its own channel.
//
// # Crashes
//
// Nothing is written yet: images are opened O_RDONLY. What a crash may leave will
// be said here with the first writer.
package vdcore
