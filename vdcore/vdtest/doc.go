// Package vdtest is what every backend must pass, and what tests build chains
// from.
//
// [Conform] runs the conformance suite over a golden image: the probe, the map's
// promises, the content against bytes that were never read by our own code, the
// contract in VirtualBox's words ([Contract]), truncation at every kind of place,
// and that every file is closed again. [Mem] is a file system in memory, and
// [VDI] writes images for chains no tool would take the time to make; it follows
// the format notes and shares no code with the reader.
package vdtest
