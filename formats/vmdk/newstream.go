package vmdk

import (
	"encoding/binary"
	"io"

	"vdfs/vdcore/storage"
)

const (
	streamKind    = "streamOptimized"
	streamVersion = 3
	typeAt        = 12 // of the marker's type
)

// layStream writes a compressed image without grains, the header last: without it a
// half-made file is none.
func (p *plan) layStream(f storage.File) error {
	s := p.stream(io.NewOffsetWriter(f, 0))
	err := s.begin(nil, p.text)
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		return err
	}
	return s.header.seal(f)
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
