package integration

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// journal remembers what was done to a disk.
type journal struct {
	mu  sync.Mutex
	ops []operation
}

type operation struct {
	worker int
	what   string
	off, n int64
}

// note enters an operation that is about to begin, and returns its number.
func (j *journal) note(worker int, what string, off, n int64) uint32 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ops = append(j.ops, operation{worker, what, off, n})
	return uint32(len(j.ops) - 1)
}

// text is one operation as a line.
func (j *journal) text(n int) string {
	o := j.ops[n]
	return fmt.Sprintf("%6d worker %d: %s, %d at %d (to %d)\n", n, o.worker, o.what, o.n, o.off, o.off+o.n)
}

// differs says where bytes read at off are wrong, whose they are, and what was done
// there last.
func (j *journal) differs(how string, off int64, got, want []byte) error {
	first, last := 0, len(got)-1
	for got[first] == want[first] {
		first++
	}
	for got[last] == want[last] {
		last--
	}
	from, to := off+int64(first), off+int64(last)+1
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %d at %d: wrong from %d to %d, %d bytes\ngot %x, want %x\n", how, len(got), off, from, to,
		to-from, got[first:min(first+16, last+1)], want[first:min(first+16, last+1)])
	fmt.Fprintf(&b, "got is %s, want is %s\nlast operations there:\n", j.origin(got[first:], from), j.origin(want[first:], from))
	j.mu.Lock()
	defer j.mu.Unlock()
	for n, shown := len(j.ops)-1, 0; n >= 0 && shown < 20; n-- {
		if o := j.ops[n]; o.n == 0 || o.off < to && from < o.off+o.n {
			b.WriteString(j.text(n))
			shown++
		}
	}
	return errors.New(b.String())
}

// origin tells which operation wrote what begins at off.
func (j *journal) origin(p []byte, off int64) string {
	skip := -off & 7
	if int64(len(p)) < skip+8 {
		return "too short to tell"
	}
	p = p[skip:]
	if bytes.Equal(p[:8], make([]byte, 8)) {
		return "zeros"
	}
	tag := unmix(binary.LittleEndian.Uint64(p))
	seq, at := tag>>32, int64(uint32(tag))*8
	j.mu.Lock()
	defer j.mu.Unlock()
	if seq < uint64(len(j.ops)) {
		return fmt.Sprintf("operation %d's for %d", seq, at)
	}
	return "older or nobody's"
}

// keep writes what helps to find a bug beside the image.
func (j *journal) keep(dir string, content []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for n := range j.ops {
		b.WriteString(j.text(n))
	}
	os.WriteFile(filepath.Join(dir, "operations.txt"), []byte(b.String()), 0o600)
	os.WriteFile(filepath.Join(dir, "model.raw"), content, 0o600)
}

// fsxFill fills p, at off of a disk, with words that tell both who wrote them, where.
func fsxFill(p []byte, off int64, seq uint32) {
	var w [8]byte
	for len(p) > 0 {
		binary.LittleEndian.PutUint64(w[:], mix(uint64(seq)<<32|uint64(off>>3)))
		n := copy(p, w[off&7:])
		p, off = p[n:], off+int64(n)
	}
}

// mix makes a number look like noise, and can be undone.
func mix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func unmix(x uint64) uint64 {
	x = (x ^ x>>33) * 0x9cb4b2f8129337db
	x = (x ^ x>>33) * 0x4f74430c22a54005
	return x ^ x>>33
}
