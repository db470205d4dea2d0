package vdtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
)

// sectorSize is what a disk reads and writes whole, for its guest.
const sectorSize = 512

// oracle knows what a disk shows, and what it may show after a power cut: each
// sector its value at the last completed sync, or one it was given since.
type oracle struct {
	start  []byte // the content at the very start, for messages
	cur    []byte
	synced []byte
	since  map[int64][][]byte // by sector
	torn   bool               // a sector may be in part one value, in part another
}

func newOracle(flat []byte, torn bool) *oracle {
	return &oracle{torn: torn, start: flat, cur: bytes.Clone(flat), synced: bytes.Clone(flat), since: map[int64][][]byte{}}
}

// sectors is the range of sectors that bytes lie in.
func sectorRange(off, n int64) (first, end int64) {
	return off / sectorSize, (off + n + sectorSize - 1) / sectorSize
}

// sector is the part of p, a whole disk, that is sector i.
func sectorOf(p []byte, i int64) []byte {
	return p[i*sectorSize : min((i+1)*sectorSize, int64(len(p)))]
}

// write says that p is being written, and returns what was there before, from the
// first sector concerned on.
func (o *oracle) write(p []byte, off int64) (before []byte) {
	if len(p) == 0 {
		return nil
	}
	first, end := sectorRange(off, int64(len(p)))
	whole := o.cur[first*sectorSize : min(end*sectorSize, int64(len(o.cur)))]
	before = bytes.Clone(whole)
	copy(o.cur[off:], p)
	after := bytes.Clone(whole)
	for i := first; i < end; i++ {
		o.since[i] = append(o.since[i], sectorOf(after, i-first))
	}
	return before
}

// failed takes in what a disk shows after a write of n bytes at off failed: each
// sector as before or as it should be.
func (o *oracle) failed(before, shown []byte, off, n int64) error {
	first, end := sectorRange(off, n)
	for i := first; i < end; i++ {
		got := sectorOf(shown, i-first)
		if !o.oneOf(got, sectorOf(before, i-first), sectorOf(o.cur, i)) {
			return fmt.Errorf("after a failed write of [%d,+%d), sector %d is neither old nor new: %s", off, n, i, o.describe(got, i))
		}
		copy(sectorOf(o.cur, i), got)
	}
	return nil
}

// sync says that everything written so far is durable.
func (o *oracle) sync() {
	for i := range o.since {
		copy(sectorOf(o.synced, i), sectorOf(o.cur, i))
	}
	clear(o.since)
}

// shows checks content read at off against what the disk must show now.
func (o *oracle) shows(got []byte, off int64) error {
	if bytes.Equal(got, o.cur[off:off+int64(len(got))]) {
		return nil
	}
	for i, c := range got {
		if at := off + int64(i); c != o.cur[at] {
			sector := at / sectorSize
			part := got[max(0, sector*sectorSize-off):min(int64(len(got)), (sector+1)*sectorSize-off)]
			return fmt.Errorf("guest byte %d (sector %d) is %#x, want %#x: %s", at, sector, c, o.cur[at], o.describe(part, sector))
		}
	}
	return nil
}

// survived checks the content of a disk after a power cut.
func (o *oracle) survived(got []byte) error {
	if len(got) != len(o.synced) {
		return fmt.Errorf("%d bytes, want %d", len(got), len(o.synced))
	}
	if len(o.since) == 0 && bytes.Equal(got, o.synced) {
		return nil
	}
	for i := int64(0); i*sectorSize < int64(len(got)); i++ {
		s := sectorOf(got, i)
		if was := sectorOf(o.synced, i); !bytes.Equal(s, was) && !o.oneOf(s, append(o.since[i], was)...) {
			return fmt.Errorf("sector %d (guest byte %d) is not what was synced, nor one of %d values written since: %s",
				i, i*sectorSize, len(o.since[i]), o.describe(s, i))
		}
	}
	return nil
}

// oneOf reports whether a sector has one of some values, or where sectors tear, the
// beginning of one and the end of another.
func (o *oracle) oneOf(got []byte, values ...[]byte) bool {
	head, tail := 0, 0
	for _, v := range values {
		if bytes.Equal(got, v) {
			return true
		}
		head, tail = max(head, commonHead(got, v)), max(tail, commonTail(got, v))
	}
	return o.torn && head+tail >= len(got)
}

func commonHead(a, b []byte) int {
	n := 0
	for n < len(a) && a[n] == b[n] {
		n++
	}
	return n
}

func commonTail(a, b []byte) int {
	n := 0
	for n < len(a) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// take makes content that survived the current one; what it may yet become stays.
func (o *oracle) take(got []byte) { copy(o.cur, got) }

// describe says what is known of a wrong sector.
func (o *oracle) describe(got []byte, i int64) string {
	head := hex.EncodeToString(got[:min(len(got), 12)])
	switch {
	case isZero(got):
		return "it reads as zeros"
	case bytes.Equal(got, sectorOf(o.start, i)):
		return "it reads as at the very start"
	case bytes.Equal(got, sectorOf(o.synced, i)):
		return "it reads as at the last sync"
	case len(got) == sectorSize:
		if at := bytes.Index(o.cur, got); at >= 0 {
			return fmt.Sprintf("it reads as guest byte %d does", at)
		}
		if at := bytes.Index(o.start, got); at >= 0 {
			return fmt.Sprintf("it reads as guest byte %d did at the very start", at)
		}
	}
	return "it begins with " + head
}

func isZero(p []byte) bool {
	var zeros [4096]byte
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// randomBytes fills p.
func randomBytes(r *rand.Rand, p []byte) {
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, r.Uint64())
		p = p[8:]
	}
	for i := range p {
		p[i] = byte(r.Uint32())
	}
}

func hexSum(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}
