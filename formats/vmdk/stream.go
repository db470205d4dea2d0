package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	markerSize = 12 // of a compressed grain: address and length
	// Kinds of metadata markers.
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
	// footerReach is how far before the end the footer is looked for: some
	// transports pad files with zeros.
	footerReach = 128 * sector
	// packedSlack is what a compressed grain may take beyond twice its size.
	packedSlack = 512
	// firstRead is how much of a record is read at least before its length is known;
	// most grains of a sparse disk pack into it.
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
		return nil, vdcore.Flaw(codeFooter, fmt.Errorf("footer with the grain directory missing at the end; the file is truncated: %w", vdcore.ErrCorrupt))
	}
	end, err := parseHosted(tail[at : at+hostedHeaderSize])
	if err != nil {
		return nil, vdcore.Flaw(codeFooter, fmt.Errorf("footer: %w", err))
	}
	if end.Directory == inFooter || end.GrainSize != h.GrainSize || end.EntriesPerTable != h.EntriesPerTable || end.Flags != h.Flags {
		return nil, vdcore.Flaw(codeFooter, fmt.Errorf("the footer contradicts the header: %w", vdcore.ErrCorrupt))
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
// off of the extent. The memory given is used if it is exactly large enough: in a
// chain with grains of several sizes a small one must not hold that of a large one.
func (g *grains) unpack(unit []byte, off, pos int64) ([]byte, error) {
	r := recordPool.Get().(*record)
	defer recordPool.Put(r)
	data, err := r.read(g, off, pos)
	if err != nil {
		return nil, fmt.Errorf("%s: compressed grain at %d: %w", g.name, pos, err)
	}
	if int64(cap(unit)) != g.grain {
		unit = make([]byte, g.grain)
	}
	unit = unit[:g.grain]
	if err := inflate(unit, data, min(g.grain, g.size-off)); err != nil {
		return nil, fmt.Errorf("%s: compressed grain at %d is damaged: %w: %w", g.name, pos, err, vdcore.ErrCorrupt)
	}
	return unit, nil
}

// record is memory for compressed grains, which grows as needed.
type record struct {
	memory []byte
	// guess is how much is read before the length is known: as much as the last one
	// took, as data that pack alike mostly lie together.
	guess int64
}

var recordPool = sync.Pool{New: func() any { return &record{make([]byte, firstRead), firstRead} }}

// read reads the compressed bytes at pos.
func (r *record) read(g *grains, off, pos int64) ([]byte, error) {
	if pos < 0 || pos > g.length-markerSize {
		return nil, fmt.Errorf("past the end of the file at %d: %w", g.length, vdcore.ErrCorrupt)
	}
	head := r.memory[:min(r.guess, g.length-pos)]
	if err := storage.ReadFull(g.file, head, pos); err != nil {
		return nil, err
	}
	n, err := g.checkMarker(head, off, pos)
	if err != nil {
		return nil, err
	}
	all := markerSize + n
	r.guess = int64(max(all, firstRead))
	if all > len(r.memory) {
		r.memory = append(make([]byte, 0, all), head...)[:all]
	}
	if all > len(head) {
		if err := storage.ReadFull(g.file, r.memory[len(head):all], pos+int64(len(head))); err != nil {
			return nil, err
		}
	}
	return r.memory[markerSize:all], nil
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
