package fs

import (
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/rs/zerolog"

	"vdfs/vdcore/evidence"
)

const (
	errorGrain  = 1 << 20          // ranges less than this apart are one
	errorsKept  = 1 << 16          // grains remembered; then the memory starts anew
	errorsBurst = 20               // lines written at once
	errorsEvery = 10 * time.Second // one more line after that
)

// ioErrors logs failing reads, writes and the like, each range once for each cause
// and never in a flood: a tool that walks over a damaged disk asks for millions of
// sectors.
type ioErrors struct {
	log   zerolog.Logger
	audit *evidence.Audit
	now   func() time.Time

	mu         sync.Mutex
	seen       map[errorGrainOf]bool
	tokens     int       // lines that may be written now
	refilled   time.Time // when tokens was last added to
	suppressed int       // ranges not written since the last line
}

type errorGrainOf struct {
	path, op string
	cause    fuse.Status
	grain    int64
}

func newIOErrors(log zerolog.Logger, audit *evidence.Audit) *ioErrors {
	return &ioErrors{log: log, audit: audit, now: time.Now, seen: map[errorGrainOf]bool{}, tokens: errorsBurst}
}

// report logs that op ("read", "write", …) failed for n bytes at off of a file of
// the mount.
func (r *ioErrors) report(op, path string, off, n int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// One request reads or writes two grains at most. Of longer ranges, a discard's,
	// the first ones stand for all.
	first := off / errorGrain
	last := min((off+n-1)/errorGrain, first+1)
	if r.known(errorGrainOf{path, op, status(err), first}, last) {
		return
	}
	if !r.allowed() {
		r.suppressed++
		return
	}
	line := r.log.Error().Str("file", path).Int64("offset", off).Int64("length", n).Err(err)
	if r.suppressed > 0 {
		line = line.Int("more_ranges", r.suppressed)
	}
	line.Msg(op + " failed")
	r.audit.Failed(op, path, off, n, err)
	r.suppressed = 0
}

// known remembers the grains from g to last, and reports whether one of them, or
// the one before, was remembered already: a reader that goes on through a lost
// range is told of once.
func (r *ioErrors) known(g errorGrainOf, last int64) bool {
	if len(r.seen) >= errorsKept {
		clear(r.seen)
	}
	before := g
	before.grain--
	known := r.seen[before]
	for ; g.grain <= last; g.grain++ {
		known = known || r.seen[g]
		r.seen[g] = true
	}
	return known
}

// allowed takes one token, if there is one.
func (r *ioErrors) allowed() bool {
	now := r.now()
	if fresh := int(now.Sub(r.refilled) / errorsEvery); fresh > 0 {
		r.tokens = min(r.tokens+fresh, errorsBurst)
		r.refilled = now
	}
	if r.tokens == 0 {
		return false
	}
	r.tokens--
	return true
}
