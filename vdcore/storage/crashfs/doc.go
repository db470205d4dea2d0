// Package crashfs is a file system in memory that loses power.
//
// # What it promises
//
// Until a file is synced, every write to it may or may not be on the disk after the
// power goes, one sector of 512 bytes at a time and in any order. The file system
// keeps all of that: per file the durable content, and every version of every
// sector, and every size, since the last sync. [FS.CutAt] makes the power go at a
// chosen operation, [FS.Survive] picks one of the states the disk can be in then,
// as a file system of its own that can be opened, written and cut again.
//
//   - A sector is never torn. A write of several sectors is.
//   - Sync and DataSync make all of a file durable, its size included, but not its
//     name: that takes a SyncDir of its folder (ext4 is kinder, POSIX is not).
//   - Names survive one by one. Remove is durable when it returns, as
//     [storage.FS] says; cut in the middle it has happened or not. So are Link, and
//     Rename and Replace, which leave the file under its old or its new name, and
//     what is replaced whole or gone; their contents are as durable as they were.
//   - A file that grew reads as zeros where nothing survived. When a size from
//     after a cut-off survives, the cut-off did too: what it cut does not come back.
//   - A sync that failed ([File.SyncFailed]) has dropped what it was to write: a
//     later one succeeds and does not make it durable. Linux does that.
//
// # How it is fast
//
// A crash loop clones the file system thousands of times. Sectors are immutable and
// shared; a file is a slice of pointers to them, copied at the first write after a
// clone or a sync; a write is one record in the file's log of what is pending.
//
// # Locks
//
// disk.mu guards everything. The hook given to [FS.Lie] is called under it and must
// not call back.
package crashfs
