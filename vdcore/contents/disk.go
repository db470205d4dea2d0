package contents

import (
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// disk is what is read from: a disk, or a partition of one.
type disk struct {
	r     io.ReaderAt
	start int64 // of the partition, in r
	size  int64
	name  string // for notes: "", or as in "partition 3: "
	*journal
}

// journal is what there is to tell, of a disk and its partitions together.
type journal struct{ notes []string }

// maxNotes bounds them: a table can have something odd in every entry.
const maxNotes = 20

func newDisk(r io.ReaderAt, size int64) *disk {
	return &disk{r: r, size: max(size, 0), journal: &journal{}}
}

func (d *disk) part(p *Partition) *disk {
	return &disk{d.r, p.Start, p.Size, fmt.Sprintf("partition %d: ", p.Number), d.journal}
}

func (d *disk) note(sentence string) {
	s := d.name + sentence
	if len(d.notes) < maxNotes && !slices.Contains(d.notes, s) {
		d.notes = append(d.notes, s)
	}
}

// maxRead is the most one call of read gives.
const maxRead = 1 << 20

// read returns n bytes at off; nil where the disk ends before, or they cannot be read,
// which is noted once.
func (d *disk) read(off, n int64) []byte {
	if off < 0 || n <= 0 || n > maxRead || off > d.size-n {
		return nil
	}
	p := make([]byte, n)
	if got, err := d.r.ReadAt(p, d.start+off); int64(got) < n {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		d.unread(err)
		return nil
	}
	return p
}

// unread notes the first error of a disk or partition; others would say the same of
// the next sector.
func (d *disk) unread(err error) {
	prefix := d.name + "not all could be looked at: "
	for _, n := range d.notes {
		if strings.HasPrefix(n, prefix) {
			return
		}
	}
	d.note("not all could be looked at: " + err.Error())
}

// text is a name as it lies in a field: up to the first zero byte.
func text(p []byte) string {
	s, _, _ := strings.Cut(string(p), "\x00")
	return strings.ToValidUTF8(s, "\uFFFD")
}

// padded is text filled up with blanks.
func padded(p []byte) string { return strings.TrimRight(text(p), " ") }

// wide is a name in UTF-16, up to the first zero.
func wide(p []byte) string {
	var out []byte
	for u := units(p); len(u) > 0 && u[0] != 0; {
		r := rune(u[0])
		u = u[1:]
		if utf16.IsSurrogate(r) {
			r2 := rune(0)
			if len(u) > 0 {
				r2 = rune(u[0])
			}
			if r = utf16.DecodeRune(r, r2); r != utf8.RuneError {
				u = u[1:]
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}

func units(p []byte) []uint16 {
	u := make([]uint16, len(p)/2)
	for i := range u {
		u[i] = le16(p[2*i:])
	}
	return u
}

// bigUUID writes 16 bytes as they lie.
func bigUUID(p []byte) string {
	if allZero(p[:16]) {
		return ""
	}
	h := hex.EncodeToString(p[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// guid writes 16 bytes of which the first three fields are little-endian.
func guid(p []byte) string {
	q := []byte{p[3], p[2], p[1], p[0], p[5], p[4], p[7], p[6]}
	return bigUUID(append(q, p[8:16]...))
}

// serial writes a FAT's number.
func serial(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%04X-%04X", n>>16, n&0xFFFF)
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
