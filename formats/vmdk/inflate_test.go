package vmdk

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"hash/adler32"
	"io"
	"math/rand/v2"
	"testing"
)

// FuzzAdler compares with the standard library, also at lengths of several leaps.
func FuzzAdler(f *testing.F) {
	f.Add([]byte(nil), uint32(0))
	f.Add([]byte("a"), uint32(1))
	f.Add(bytes.Repeat([]byte{0xFF}, adlerBlock+7), uint32(3*adlerLeap+adlerBlock+9))
	f.Add([]byte("0123456789"), uint32(adlerLeap-1))
	f.Fuzz(func(t *testing.T, p []byte, n uint32) {
		if n %= 4 * adlerLeap; len(p) > 0 {
			p = bytes.Repeat(p, int(n)/len(p)+1)
		}
		if got, want := adler(p), adler32.Checksum(p); got != want {
			t.Errorf("%d bytes: %#x, want %#x", len(p), got, want)
		}
	})
}

// reference is what the standard library makes of a stream.
func reference(t *testing.T, data []byte, size int) ([]byte, bool) {
	src := bytes.NewReader(data)
	r, err := zlib.NewReader(src)
	if err != nil {
		return nil, false
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(size)+1))
	return out, err == nil && len(out) <= size && src.Len() == 0
}

// FuzzInflate compares with the standard library: which streams are good, and what
// they hold. Those whose only fault is the checksum are given the right one, or
// hardly any would ever be good.
func FuzzInflate(f *testing.F) {
	for _, s := range streams() {
		f.Add(s, uint16(len(s)))
		f.Add(s[:len(s)-1], uint16(1000))
		f.Add(append(s, 0), uint16(0xFFFF))
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		if data = bytes.Clone(data); len(data) >= 6 {
			if data[1]&0x20 != 0 {
				return // the standard library has an empty dictionary
			}
			r := flate.NewReader(bytes.NewReader(data[2:]))
			if out, err := io.ReadAll(io.LimitReader(r, 1<<16)); err == nil {
				binary.BigEndian.PutUint32(data[len(data)-4:], adler32.Checksum(out))
			}
		}
		want, good := reference(t, data, int(size))
		unit := bytes.Repeat([]byte{0xAA}, int(size)+1)[:size]
		err := inflate(unit, data, 0)
		if good != (err == nil) {
			t.Fatalf("good is %v, but: %v", good, err)
		}
		if good && (!bytes.Equal(unit[:len(want)], want) || len(bytes.Trim(unit[len(want):], "\x00")) != 0) {
			t.Fatal("other bytes")
		}
		if unit = unit[:len(unit)+1]; unit[size] != 0xAA {
			t.Fatal("written behind the unit")
		}
	})
}

// contents are kinds of data that make kinds of blocks.
func contents() [][]byte {
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 40000)
	random.Read(noise)
	skewed := make([]byte, 40000) // few of some bytes, so that words are long
	for i := range skewed {
		skewed[i] = byte(rand.New(random).ExpFloat64() * 9)
	}
	far := append(append(bytes.Clone(noise[:300]), make([]byte, 32000)...), noise[:300]...)
	var runs []byte // of each distance up to 20, and of each length
	for d := 1; d <= 20; d++ {
		for n := 1; n < 300; n += 23 {
			runs = append(append(runs, noise[n:n+d]...), bytes.Repeat(noise[n:n+d], n/d+1)...)
		}
	}
	return [][]byte{nil, {7}, []byte("hello, hello, hello!"), noise, skewed, far, runs, make([]byte, 65000)}
}

// streams are all contents at all kinds of levels.
func streams() (list [][]byte) {
	for _, c := range contents() {
		for _, level := range []int{zlib.NoCompression, zlib.BestSpeed, zlib.DefaultCompression, zlib.BestCompression, zlib.HuffmanOnly} {
			var b bytes.Buffer
			w, _ := zlib.NewWriterLevel(&b, level)
			w.Write(c[:len(c)/2])
			w.Flush()
			w.Write(c[len(c)/2:])
			w.Close()
			list = append(list, b.Bytes())
		}
	}
	return list
}

// TestInflateCut: a stream cut anywhere, or with any one bit wrong, is refused or,
// if the standard library takes it, the same.
func TestInflateCut(t *testing.T) {
	for _, s := range streams() {
		out, good := reference(t, s, 1<<17)
		if !good {
			t.Fatalf("the stream is bad: %d %x", len(s), s[:min(len(s), 40)])
		}
		unit := make([]byte, len(out))
		if err := inflate(unit, s, int64(len(out))); err != nil || !bytes.Equal(unit, out) {
			t.Fatalf("%d bytes of %d: %v", len(s), len(out), err)
		}
		if len(out) > 0 && inflate(unit[1:], s, 0) == nil {
			t.Fatalf("%d bytes fit in less", len(out))
		}
		step := max(1, len(s)/80)
		for n := 0; n < len(s); n += step {
			if inflate(unit, s[:n], 0) == nil {
				t.Fatalf("cut to %d bytes of %d", n, len(s))
			}
			bad := bytes.Clone(s)
			bad[n] ^= 1 << (n / step % 8)
			_, good := reference(t, bad, len(unit))
			if got := inflate(unit, bad, 0) == nil; got != good && bad[1]&0x20 == 0 {
				t.Fatalf("byte %d of %d wrong: taken is %v, want %v", n, len(s), got, good)
			}
		}
	}
}
