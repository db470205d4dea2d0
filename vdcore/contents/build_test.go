package contents

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"unicode/utf16"
)

// image is a disk made of a few pieces; the rest of it is zeros.
type image struct {
	size   int64
	pieces map[int64][]byte // by offset
	bad    [2]int64         // a range that cannot be read
}

func newImage(size int64) *image { return &image{size: size, pieces: map[int64][]byte{}} }

var errBad = errors.New("bad sector")

func (m *image) ReadAt(p []byte, off int64) (int, error) {
	if off < m.bad[1] && m.bad[0] < off+int64(len(p)) {
		return 0, errBad
	}
	if off >= m.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), m.size-off))
	clear(p[:n])
	for _, at := range slices.Sorted(maps.Keys(m.pieces)) {
		piece := m.pieces[at]
		if at < off+int64(n) && off < at+int64(len(piece)) {
			from := max(off, at)
			copy(p[from-off:n], piece[from-at:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *image) put(off int64, p []byte) { m.pieces[off] = p }

type entry struct {
	kind, flags    byte
	first, sectors uint32
}

// table is a sector with MBR entries.
func table(entries ...entry) []byte {
	p := make([]byte, 512)
	for i, e := range entries {
		q := p[446+16*i:]
		q[0], q[4] = e.flags, e.kind
		binary.LittleEndian.PutUint32(q[8:], e.first)
		binary.LittleEndian.PutUint32(q[12:], e.sectors)
	}
	p[510], p[511] = 0x55, 0xAA
	return p
}

type gptPart struct {
	first, last uint64
	name        string
}

// putGPT writes a GPT of 128 entries, both copies, and a protective MBR.
func (m *image) putGPT(sector int64, parts ...gptPart) {
	last := uint64(m.size/sector) - 1
	entries := make([]byte, 128*128)
	for i, p := range parts {
		e := entries[128*i:]
		copy(e, "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4") // Linux filesystem
		e[16] = byte(i + 1)
		binary.LittleEndian.PutUint64(e[32:], p.first)
		binary.LittleEndian.PutUint64(e[40:], p.last)
		for j, u := range utf16.Encode([]rune(p.name)) {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
	}
	before := last - uint64((int64(len(entries))+sector-1)/sector)
	m.put(0, table(entry{0xEE, 0, 1, uint32(last)}))
	m.put(sector, header(1, last, 2, entries))
	m.put(2*sector, entries)
	m.put(int64(before)*sector, entries)
	m.put(int64(last)*sector, header(last, 1, before, entries))
}

func header(my, other, at uint64, entries []byte) []byte {
	h := make([]byte, 512)
	copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	le := binary.LittleEndian
	le.PutUint64(h[24:], my)
	le.PutUint64(h[32:], other)
	h[56] = 7
	le.PutUint64(h[72:], at)
	le.PutUint32(h[80:], uint32(len(entries)/128))
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	seal(h)
	return h
}

// seal makes the checksum of a header right.
func seal(h []byte) {
	clear(h[16:20])
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
}
