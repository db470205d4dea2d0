package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	markerSize   = 12 // of a compressed grain: address and length
	markerFooter = 3
	// footerReach is how far before the end the footer is looked for: some
	// transports pad files with zeros.
	footerReach = 128 * sector
	// packedSlack is what a compressed grain may take beyond twice its size.
	packedSlack = 512
	// firstRead is how much of a record is read before its length is known; most
	// grains of a sparse disk pack into it.
	firstRead = 4096
)

// footer returns the header to go by: the file's own or, when that one says so,
// the copy at the end.
func (h *hostedHeader) footer(f storage.File, size int64) (*hostedHeader, error) {
	if h.Directory != inFooter {
		return h, nil
	}
	n := min(size, footerReach)
	tail := make([]byte, n-n%sector)
	if err := storage.ReadFull(f, tail, size/sector*sector-int64(len(tail))); err != nil {
		return nil, err
	}
	at := findFooter(tail)
	if at < 0 {
		return nil, fmt.Errorf("footer with the grain directory missing at the end; the file is truncated: %w", vdcore.ErrCorrupt)
	}
	end, err := parseHosted(tail[at : at+hostedHeaderSize])
	if err != nil {
		return nil, fmt.Errorf("footer: %w", err)
	}
	if end.Directory == inFooter || end.GrainSize != h.GrainSize || end.EntriesPerTable != h.EntriesPerTable || end.Flags != h.Flags {
		return nil, fmt.Errorf("the footer contradicts the header: %w", vdcore.ErrCorrupt)
	}
	return end, nil
}

// findFooter looks backwards for the footer: behind a footer marker, and followed
// by nothing but zeros, the first sector of which is the end-of-stream marker.
func findFooter(tail []byte) int {
	for at := len(tail) - 2*sector; at >= sector; at -= sector {
		if next := tail[at+sector : at+2*sector]; len(bytes.Trim(next, "\x00")) != 0 {
			return -1
		}
		marker := tail[at-sector:]
		if bytes.HasPrefix(tail[at:], hostedMagic) && binary.LittleEndian.Uint32(marker[8:]) == 0 &&
			binary.LittleEndian.Uint32(marker[12:]) == markerFooter {
			return at
		}
	}
	return -1
}

// unpack reads the compressed grain at pos, which must be that of guest offset
// off of the extent.
func (g *grains) unpack(off, pos int64) ([]byte, error) {
	record := recordPool.Get().(*[]byte)
	defer recordPool.Put(record)
	data, err := g.record(record, off, pos)
	if err != nil {
		return nil, fmt.Errorf("%s: compressed grain at %d: %w", g.name, pos, err)
	}
	unit, err := inflate(data, g.grain, min(g.grain, g.size-off))
	if err != nil {
		return nil, fmt.Errorf("%s: compressed grain at %d is damaged: %w: %w", g.name, pos, err, vdcore.ErrCorrupt)
	}
	return unit, nil
}

var recordPool = sync.Pool{New: func() any { b := make([]byte, firstRead); return &b }}

// record reads the compressed bytes at pos into buf, which grows as needed.
func (g *grains) record(buf *[]byte, off, pos int64) ([]byte, error) {
	if pos < 0 || pos > g.length-markerSize {
		return nil, fmt.Errorf("past the end of the file at %d: %w", g.length, vdcore.ErrCorrupt)
	}
	head := (*buf)[:min(firstRead, g.length-pos)]
	if err := storage.ReadFull(g.file, head, pos); err != nil {
		return nil, err
	}
	n, err := g.checkMarker(head, off, pos)
	if err != nil {
		return nil, err
	}
	all := markerSize + n
	if all > len(*buf) {
		*buf = append(make([]byte, 0, all), head...)[:all]
	}
	if all > len(head) {
		if err := storage.ReadFull(g.file, (*buf)[len(head):all], pos+int64(len(head))); err != nil {
			return nil, err
		}
	}
	return (*buf)[markerSize:all], nil
}

// checkMarker returns the length of the compressed bytes behind the marker.
func (g *grains) checkMarker(marker []byte, off, pos int64) (int, error) {
	lba := binary.LittleEndian.Uint64(marker)
	if lba != uint64(off/sector) {
		return 0, fmt.Errorf("it says it belongs to sector %d, the table says %d: %w", lba, off/sector, vdcore.ErrCorrupt)
	}
	n := int64(binary.LittleEndian.Uint32(marker[8:]))
	switch left := g.length - pos - markerSize; {
	case n == 0:
		return 0, fmt.Errorf("compressed size of a grain is 0: %w", vdcore.ErrCorrupt)
	case n > left:
		return 0, fmt.Errorf("compressed size of a grain is %d bytes, the file has %d left: %w", n, left, vdcore.ErrCorrupt)
	case n > 2*g.grain+packedSlack:
		return 0, fmt.Errorf("compressed size of a grain is %d bytes, so that it inflates to more than a grain of %d: %w", n, g.grain, vdcore.ErrCorrupt)
	}
	return int(n), nil
}

// inflater is a zlib reader that is used again and again.
type inflater struct {
	src bytes.Reader
	z   io.ReadCloser
}

var inflaters = sync.Pool{New: func() any { return new(inflater) }}

// inflate unpacks data into a unit of the given size. The first need bytes must be
// there; the last grain of an extent may end with the extent, and is filled up.
func inflate(data []byte, size, need int64) ([]byte, error) {
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	i.src.Reset(data)
	if err := i.reset(); err != nil {
		return nil, err
	}
	unit := make([]byte, size)
	n := 0
	for n < len(unit) {
		k, err := i.z.Read(unit[n:])
		n += k
		if err == io.EOF && int64(n) < need {
			return nil, fmt.Errorf("it inflates to %d bytes, %d are needed", n, need)
		}
		if err == io.EOF {
			return unit, i.atEnd()
		}
		if err != nil {
			return nil, err
		}
	}
	var more [1]byte
	if _, err := io.ReadFull(i.z, more[:]); err == nil {
		return nil, fmt.Errorf("it inflates to more than a grain of %d bytes", size)
	} else if err != io.EOF {
		return nil, err
	}
	return unit, i.atEnd()
}

func (i *inflater) reset() (err error) {
	if i.z == nil {
		i.z, err = zlib.NewReader(&i.src)
		return err
	}
	return i.z.(zlib.Resetter).Reset(&i.src, nil)
}

var errTrailing = errors.New("bytes behind the compressed data")

// atEnd checks that the stream used up all its input.
func (i *inflater) atEnd() error {
	if i.src.Len() > 0 {
		return errTrailing
	}
	return nil
}
