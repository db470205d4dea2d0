// Package vdtest is what every backend must pass, and what tests build chains
// from.
//
// [Conform] runs the conformance suite over a golden image: the probe, the map's
// promises, the content against bytes that were never read by our own code, the
// contract in VirtualBox's words ([Contract]), truncation at every kind of place,
// and that every file is closed again. [Mem] is a file system in memory, and
// [VDI] writes images for chains no tool would take the time to make; it follows
// the format notes and shares no code with the reader.
//
// # Writing
//
// What writes must pass four suites, each given a [WriteCase]: an image, its
// parents and the content they show. [VDICase], [CreatedCase] and
// [GoldenWriteCase] make them.
//
//   - [Model] runs a random workload and compares with a byte slice.
//   - [Crash] lets the power go at every operation of a script (package crashfs),
//     looks at what may have survived, writes to it, and cuts once more.
//   - [Faults] makes every operation fail in turn (package faultfs).
//   - [Barriers] proves that Crash notices when a barrier is missing.
//
// What may be on a disk after a cut is said in one place, oracle: each sector what
// it was at the last completed sync, or something written since. The suites are
// themselves tested, with a small image format that makes one mistake at a time.
//
// # Locks
//
// Mem.mu guards the names, memData.mu a content; the suites have none: one
// goroutine runs a script, and those that doTogether starts share no data.
package vdtest
