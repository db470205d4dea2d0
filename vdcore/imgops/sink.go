package imgops

import (
	"fmt"
	"io"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// places says where a guest offset lies in a new image, and how much lies there
// together. It is asked in guest order. Where nothing is written reads as zeros.
type places interface {
	Place(off int64) (file storage.File, pos, n int64, err error)
}

// sparseSink writes what is not zeros to its places.
type sparseSink struct{ places }

func (s sparseSink) unit() int64 { return 1 }
func (s sparseSink) zeros() bool { return false }
func (s sparseSink) load() load  { return &sparseLoad{places: s.places} }

type sparseLoad struct {
	places
	runs   []run // of the piece at hand
	writes []write
}

// run is a range of a piece that is not zeros; without data it is a unit of zeros.
type run struct {
	off  int64
	data []byte
}

// early is how much is written before the kernel is told to begin with it, bytes.
const early = 8 << 20

// write is data on its way to its place.
type write struct {
	file storage.File
	pos  int64
	data []byte
}

func (l *sparseLoad) pack(data []byte, p piece) error {
	l.runs, l.writes = l.runs[:0], l.writes[:0]
	l.scan(data, p.off)
	return nil
}

// scan notes the runs of data.
func (l *sparseLoad) scan(data []byte, off int64) {
	for start := 0; start < len(data); {
		end, zero := zeroRun(data, start)
		if !zero {
			l.runs = append(l.runs, run{off + int64(start), data[start:end]})
		}
		start = end
	}
}

func (l *sparseLoad) turn([]byte, piece) error {
	for _, r := range l.runs {
		if err := l.place(r); err != nil {
			return err
		}
	}
	return nil
}

// place cuts a run by where its parts lie.
func (l *sparseLoad) place(r run) error {
	for len(r.data) > 0 {
		file, pos, n, err := l.Place(r.off)
		if err != nil {
			return err
		}
		n = min(n, int64(len(r.data)))
		if k := len(l.writes) - 1; k >= 0 && l.writes[k].continues(file, pos, r.data) {
			l.writes[k].data = l.writes[k].data[:int64(len(l.writes[k].data))+n]
		} else {
			l.writes = append(l.writes, write{file, pos, r.data[:n:len(r.data)]})
		}
		r.off, r.data = r.off+n, r.data[n:]
	}
	return nil
}

// continues reports whether data goes on behind w, in memory and in the file.
func (w write) continues(file storage.File, pos int64, data []byte) bool {
	rest := w.data[len(w.data):cap(w.data)]
	return w.file == file && w.pos+int64(len(w.data)) == pos && len(rest) > 0 && &rest[:1][0] == &data[0]
}

func (l *sparseLoad) bring() error {
	for _, w := range l.writes {
		if _, err := w.file.WriteAt(w.data, w.pos); err != nil {
			return err
		}
		if end := w.pos + int64(len(w.data)); end/early > w.pos/early {
			storage.StartWriting(w.file, (end/early-1)*early, early)
		}
	}
	return nil
}

// childSink writes whole units to a differencing image, in which nothing means the
// parents'.
type childSink struct {
	*vdcore.Filler
	size int64 // of a unit
}

func (s childSink) unit() int64 { return s.size }
func (s childSink) zeros() bool { return false }
func (s childSink) load() load  { return &childLoad{sparseLoad{places: s.Filler}, s} }

type childLoad struct {
	sparseLoad
	to childSink
}

func (l *childLoad) pack(data []byte, p piece) error {
	l.runs, l.writes = l.runs[:0], l.writes[:0]
	for at := int64(0); at < p.n; at += l.to.size {
		unit := data[at:min(at+l.to.size, p.n)]
		if isZero(unit) {
			l.runs = append(l.runs, run{off: p.off + at})
			continue
		}
		l.scan(unit, p.off+at)
	}
	return nil
}

func (l *childLoad) turn([]byte, piece) error {
	for _, r := range l.runs {
		err := error(nil)
		if r.data == nil {
			err = l.to.Zero(r.off)
		} else {
			err = l.place(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// plainStream writes the disk as it is, front to back.
type plainStream struct{ io.Writer }

func (s plainStream) unit() int64              { return 1 }
func (s plainStream) zeros() bool              { return true }
func (s plainStream) load() load               { return s }
func (s plainStream) pack([]byte, piece) error { return nil }
func (s plainStream) bring() error             { return nil }
func (s plainStream) turn(data []byte, p piece) error {
	if data != nil {
		_, err := s.Write(data)
		return streamError(err)
	}
	for n := p.n; n > 0; n -= int64(len(manyZeros)) {
		if _, err := s.Write(manyZeros[:min(n, int64(len(manyZeros)))]); err != nil {
			return streamError(err)
		}
	}
	return nil
}

func streamError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write: %w", err)
}

// packedSink writes the records of a format front to back, zeros left out.
type packedSink struct{ vdcore.Streamer }

func (s packedSink) unit() int64 { return s.Unit() }
func (s packedSink) zeros() bool { return false }
func (s packedSink) load() load  { return &packedLoad{Streamer: s.Streamer} }

type packedLoad struct {
	vdcore.Streamer
	records []record
	memory  []byte // of the records, one behind the other
}

type record struct {
	off int64
	end int // in memory
}

func (l *packedLoad) pack(data []byte, p piece) (err error) {
	l.records, l.memory = l.records[:0], l.memory[:0]
	for at := int64(0); at < int64(len(data)); at += l.Unit() {
		unit := data[at:min(at+l.Unit(), int64(len(data)))]
		if isZero(unit) {
			continue
		}
		if l.memory, err = l.Pack(l.memory, unit, p.off+at); err != nil {
			return err
		}
		l.records = append(l.records, record{p.off + at, len(l.memory)})
	}
	return nil
}

func (l *packedLoad) turn([]byte, piece) error {
	start := 0
	for _, r := range l.records {
		if err := l.Append(l.memory[start:r.end], r.off); err != nil {
			return streamError(err)
		}
		start = r.end
	}
	return nil
}

func (l *packedLoad) bring() error { return nil }
