// Command bench measures vdfs beside its peers and prints ratios.
//
// Every figure is taken in one run, interleaved with the peer's, for several
// rounds; what is printed is the median, and the ratio of medians. Absolute times
// of one machine say little and are printed only to show the order of magnitude.
// Peers that are not installed are named as skipped.
//
// The images are made here, by qemu-img and, for long chains of VDI, which QEMU
// cannot make, by the test suite's writer.
package main
