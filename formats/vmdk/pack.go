package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"syscall"

	"github.com/klauspost/compress/flate"

	"vdfs/vdcore"
)

const packLevel = 6 // of flate: sizes as those of zlib's usual level

// stream is a streamOptimized image on its way out, in VirtualBox's and VMware's
// flavour: compressed grains, behind those of each table the table, then the
// directory, a footer that tells where it is, and the end-of-stream marker. Tables
// without grains are left out.
type stream struct {
	w      io.Writer
	header *hostedHeader
	pos    uint64 // sectors written so far
	table  []byte // of the grains being written
	held   bool   // it leads to one at least
	first  int64  // number of the table
	dir    []byte
}

// newStream begins an image.
func newStream(w io.Writer, args vdcore.CreateArgs) (vdcore.Streamer, error) {
	args.Variant = "stream"
	p, err := newPlan(args)
	if err != nil {
		return nil, err
	}
	s := p.stream(w)
	return s, s.begin(s.header.bytes(), p.text)
}

func (p *plan) stream(w io.Writer) *stream {
	h := newStreamHeader(p.args.Capacity)
	return &stream{w: w, header: h, table: make([]byte, newEntries*4), dir: make([]byte, h.entries()*4)}
}

// begin writes what comes before the grains.
func (s *stream) begin(header, text []byte) error {
	head := make([]byte, newGrain*sector)
	copy(head, header)
	copy(head[newDescriptor*sector:], text)
	return s.write(head)
}

func (s *stream) Unit() int64 { return newGrain * sector }

// packers are the compressors of one goroutine each.
var packers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, packLevel)
	if err != nil {
		panic(err) // the level is a constant
	}
	return &packer{flate: w}
}}

type packer struct {
	flate *flate.Writer
	out   bytes.Buffer
	grain [newGrain * sector]byte
}

// Pack makes a record: where the grain belongs, the length of what follows, a zlib
// stream, and zeros up to the end of a sector.
func (s *stream) Pack(dst, data []byte, off int64) ([]byte, error) {
	if int64(len(data)) > s.Unit() || off%s.Unit() != 0 {
		return nil, fmt.Errorf("%d bytes at %d are no grain: %w", len(data), off, vdcore.ErrUnsupported)
	}
	p := packers.Get().(*packer)
	defer packers.Put(p)
	if len(data) < len(p.grain) {
		clear(p.grain[copy(p.grain[:], data):])
		data = p.grain[:]
	}
	p.out.Reset()
	p.flate.Reset(&p.out)
	if _, err := p.flate.Write(data); err != nil {
		return nil, err
	}
	if err := p.flate.Close(); err != nil {
		return nil, err
	}
	const frame = 2 + 4 // of zlib: its header and the checksum
	dst = binary.LittleEndian.AppendUint64(dst, uint64(off/sector))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(p.out.Len()+frame))
	dst = append(dst, 0x78, 0x9C) // deflate, a window of 32 KiB, the usual level
	dst = append(dst, p.out.Bytes()...)
	dst = binary.BigEndian.AppendUint32(dst, adler(data))
	return append(dst, make([]byte, -(markerSize+frame+p.out.Len())&(sector-1))...), nil
}

// Append writes a record and notes it in its table.
func (s *stream) Append(record []byte, off int64) error {
	grain := off / s.Unit()
	if err := s.enter(grain / newEntries); err != nil {
		return err
	}
	if s.pos > math.MaxUint32 {
		return fmt.Errorf("the file has reached 2 TiB, and grain tables can tell of no place beyond: %w", syscall.ENOSPC)
	}
	binary.LittleEndian.PutUint32(s.table[grain%newEntries*4:], uint32(s.pos))
	s.held = true
	return s.write(record)
}

// enter goes on to a table, which ends the one before.
func (s *stream) enter(table int64) error {
	if table == s.first {
		return nil
	}
	if table < s.first || table >= int64(s.header.entries()) {
		return fmt.Errorf("a grain of table %d after those of table %d: %w", table, s.first, vdcore.ErrUnsupported)
	}
	err := s.endTable()
	s.first = table
	return err
}

func (s *stream) endTable() error {
	if !s.held {
		return nil
	}
	at, err := s.marked(markerTable, s.table)
	binary.LittleEndian.PutUint32(s.dir[s.first*4:], uint32(at))
	clear(s.table)
	s.held = false
	return err
}

// Close writes the last table, the directory, the footer and the end.
func (s *stream) Close() error {
	if err := s.endTable(); err != nil {
		return err
	}
	at, err := s.marked(markerDirectory, s.dir)
	if err != nil {
		return err
	}
	footer := *s.header
	footer.Directory = at
	_, err = s.marked(markerFooter, footer.bytes())
	return errors.Join(err, s.write(make([]byte, sector)))
}

// marked writes a marker and what it announces, and returns where that begins.
func (s *stream) marked(kind uint32, b []byte) (at uint64, err error) {
	n := (len(b) + sector - 1) / sector
	block := append(markerOf(kind, int64(n)), make([]byte, n*sector)...)
	copy(block[sector:], b)
	at = s.pos + 1
	if at > math.MaxUint32 {
		return 0, fmt.Errorf("the file has reached 2 TiB, and its directory can tell of no place beyond: %w", syscall.ENOSPC)
	}
	return at, s.write(block)
}

// write writes whole sectors.
func (s *stream) write(b []byte) error {
	_, err := s.w.Write(b)
	s.pos += uint64(len(b) / sector)
	return err
}
