// Package faultfs wraps a file system and makes chosen operations fail.
//
// # What it promises
//
// A [Rule] names the kinds of operations and the files it is about; those are
// counted, and the one whose turn it is fails, once or from then on. A failing
// operation does nothing, but for two cases that real disks have too:
//
//   - With Rule.Short a failing write writes its first half, up to the end of a
//     sector, and says so: the kernel writes short at block boundaries.
//   - A failing sync is told to the file below, if that cares (a method
//     SyncFailed, which package crashfs has): what it was to write is lost to later
//     syncs as well.
//
// Everything else is passed on as it is.
//
// # Locks
//
// FS.mu guards the rule and the counts, and is not held while the file system
// below works.
package faultfs
