package imgops

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Digests are the hashes of one content in hexadecimal digits, by algorithm.
type Digests map[string]string

// DefaultAlgorithm is the one that is meant when none is named.
const DefaultAlgorithm = "sha256"

var algorithms = map[string]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New, DefaultAlgorithm: sha256.New, "sha512": sha512.New,
}

// Algorithms lists the names of the hashes there are.
func Algorithms() []string { return slices.Sorted(maps.Keys(algorithms)) }

// content is something to hash.
type content struct {
	name   string // for messages
	size   int64
	reader io.ReaderAt
	feed   func(*feeder) error // cuts it into pieces
	sums   Digests             // the result
}

func fileContent(f storage.File, size int64) *content {
	return &content{name: f.Path(), size: size, reader: f, feed: func(fd *feeder) error { return fd.file(f) }}
}

func diskContent(d *vdcore.Disk) *content {
	return &content{
		name: "the disk of " + d.Layer().Path, size: d.Capacity(), reader: d,
		feed: func(fd *feeder) error { return fd.whole(d, nil) },
	}
}

// file sends all of a file, without reading its holes.
func (f *feeder) file(file storage.File) error {
	for at := int64(0); at < f.end; {
		data, err := file.NextData(at)
		if err != nil {
			return err
		}
		if data >= f.end {
			break
		}
		if at, err = file.NextHole(data); err != nil {
			return err
		}
		if at <= data {
			return fmt.Errorf("%s: %w", file.Path(), storage.ErrChanged)
		}
		if !f.data(data, at) {
			return nil
		}
	}
	f.flush(f.end)
	return nil
}

// hashAll hashes all contents by all of the algorithms: each is read once, several
// contents are at a time, the longest first, as one hash takes one processor. A
// content that cannot be read, or ctx, ends it all.
func hashAll(ctx context.Context, list []*content, names []string, progress Progress) error {
	count := &counter{report: progress}
	for _, c := range list {
		count.total += c.size
	}
	procs := runtime.GOMAXPROCS(0)
	order := slices.Clone(list)
	slices.SortStableFunc(order, func(a, b *content) int { return cmp.Compare(b.size, a.size) })
	at := min(procs, len(order))
	return relayOf(ctx, max(at, 1), func(_ context.Context, send func(*content) bool) error {
		for _, c := range order {
			if !send(c) {
				break
			}
		}
		return nil
	}, func() runner[*content] {
		return &hasher{ctx: ctx, names: names, readers: 2 * procs / max(at, 1), count: count}
	})
}

// hasher is one goroutine's part of hashAll.
type hasher struct {
	ctx     context.Context
	names   []string
	readers int // of one content
	count   *counter
}

func (h *hasher) before(**content) error  { return nil }
func (h *hasher) turn(**content) error    { return nil }
func (h *hasher) after(c **content) error { return (*c).hash(h) }

func (c *content) hash(h *hasher) error {
	s := newSums(h.names)
	err := relayOf(h.ctx, h.readers, func(ctx context.Context, send func(piece) bool) error {
		f := &feeder{send: send, skip: h.count.skipper(ctx), end: c.size, unit: 1, chunk: readChunk, zeros: true}
		return c.feed(f)
	}, func() runner[piece] { return &summer{content: c, sums: s, count: h.count} })
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	c.sums = s.digests()
	return nil
}

// summer reads pieces while others do, and hashes them in order.
type summer struct {
	*content
	sums  *sums
	count *counter
	buf   []byte
}

func (s *summer) before(p *piece) error {
	if p.zero {
		return nil
	}
	if s.buf == nil {
		s.buf = make([]byte, readChunk)
	}
	if err := storage.ReadFull(s.reader, s.buf[:p.n], p.off); err != nil {
		return fmt.Errorf("%d bytes at %d: %w", p.n, p.off, err)
	}
	return nil
}

func (s *summer) turn(p *piece) error {
	if !p.zero {
		s.sums.write(s.buf[:p.n])
		return nil
	}
	for n := p.n; n > 0; n -= int64(len(manyZeros)) {
		s.sums.write(manyZeros[:min(n, int64(len(manyZeros)))])
	}
	return nil
}

func (s *summer) after(p *piece) error {
	s.count.add(p.n)
	return nil
}

// sums are several hashes of one content.
type sums struct {
	names  []string
	hashes []hash.Hash
}

func newSums(names []string) *sums {
	s := &sums{names: names}
	for _, n := range names {
		s.hashes = append(s.hashes, algorithms[n]())
	}
	return s
}

// write adds to all of them, each on a processor of its own.
func (s *sums) write(p []byte) {
	var others sync.WaitGroup
	for _, h := range s.hashes[1:] {
		others.Go(func() { h.Write(p) })
	}
	s.hashes[0].Write(p)
	others.Wait()
}

func (s *sums) digests() Digests {
	d := Digests{}
	for i, n := range s.names {
		d[n] = hex.EncodeToString(s.hashes[i].Sum(nil))
	}
	return d
}
