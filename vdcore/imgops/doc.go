// Package imgops holds what can be done with a whole image, as library calls with
// a progress callback: the command line adds nothing but words.
//
// # Converting, copying, comparing
//
// All of these are a relay (relay.go): a feeder cuts the disk, as its map tells, into
// pieces, all processors read them, pack or compare them, each piece has a turn of its
// own in the disk's order, and what is left is done by all again. What depends on the
// order, and is quick, happens in the turn: handing out places in the new image, so
// that its blocks lie in the disk's order, writing to a stream, and the checksum.
// Where pieces go is a sink: places in an image (sparseSink, and childSink, which
// writes whole units, for differencing ones), a stream of bytes, or records a format
// packs (vdcore.Streamer). A copy is a conversion to raw.
//
// # Hashes and manifests
//
// Contents (digest.go), files of images and flat disks, are cut into pieces as above, each
// in a relay of its own, and several at a time. A manifest is verified by the names of
// files, before an image is opened: so the file that was changed is named, and not the
// image that does not open any more. That the files an image is then made of are those
// that were verified, their identities and times tell (Verified.Opened).
package imgops

// Progress is called now and then with the guest bytes done and those there are;
// calls may come from several goroutines, one at a time.
type Progress func(done, total int64)
