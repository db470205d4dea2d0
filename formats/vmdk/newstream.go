package vmdk

import (
	"encoding/binary"

	"vdfs/vdcore/storage"
)

const (
	streamKind    = "streamOptimized"
	streamVersion = 3
	typeAt        = 12 // of the marker's type
)

// layStream writes a compressed image without grains, as VirtualBox lays it out:
// header, descriptor, directory without tables, and the footer, all but grains behind
// markers. The end of the stream is a sector of zeros.
func layStream(f storage.File, capacity int64, text []byte) error {
	h := newStreamHeader(capacity)
	marker, footer := int64(h.Overhead)*sector, *h
	footer.Directory = h.Overhead + 1
	size := directorySectors(int64(h.entries()))
	end := marker + sector + size*sector // of the directory, which is a hole
	if err := f.Truncate(end + 3*sector); err != nil {
		return err
	}
	for _, w := range []struct {
		b  []byte
		at int64
	}{
		{text, newDescriptor * sector}, {markerOf(markerDirectory, size), marker},
		{markerOf(markerFooter, 1), end}, {footer.bytes(), end + sector},
	} {
		if _, err := f.WriteAt(w.b, w.at); err != nil {
			return err
		}
	}
	return h.seal(f)
}

func newStreamHeader(capacity int64) *hostedHeader {
	return &hostedHeader{
		Version: streamVersion, Flags: flagNewlines | flagPacked | flagMarkers, Compression: deflate,
		Capacity: wholeGrains(capacity), GrainSize: newGrain, EntriesPerTable: newEntries,
		DescriptorOffset: newDescriptor, DescriptorSize: newRoom, Directory: inFooter, Overhead: newGrain,
	}
}

// markerOf is the sector before so many sectors of metadata.
func markerOf(kind uint32, sectors int64) []byte {
	b := make([]byte, sector)
	binary.LittleEndian.PutUint64(b, uint64(sectors))
	binary.LittleEndian.PutUint32(b[typeAt:], kind)
	return b
}
