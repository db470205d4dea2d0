package fs

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	errorGrain  = 1 << 20          // ranges less than this apart are one
	errorsKept  = 1 << 16          // grains remembered; then the memory starts anew
	errorsBurst = 20               // lines written at once
	errorsEvery = 10 * time.Second // one more line after that
)

// readErrors logs failing reads, each range once and never in a flood: a tool
// that walks over a damaged disk asks for millions of sectors.
type readErrors struct {
	log zerolog.Logger
	now func() time.Time

	mu         sync.Mutex
	seen       map[errorGrainOf]bool
	tokens     int       // lines that may be written now
	refilled   time.Time // when tokens was last added to
	suppressed int       // ranges not written since the last line
}

type errorGrainOf struct {
	path  string
	grain int64
}

func newReadErrors(log zerolog.Logger) *readErrors {
	return &readErrors{log: log, now: time.Now, seen: map[errorGrainOf]bool{}, tokens: errorsBurst}
}

// report logs that n bytes at off of a file of the mount could not be read.
func (r *readErrors) report(path string, off, n int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known(path, off/errorGrain, (off+n-1)/errorGrain) {
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
	line.Msg("read failed")
	r.suppressed = 0
}

// known remembers the grains first to last of a file, and reports whether one of
// them, or the one before, was remembered already: a reader that goes on through a
// lost range is told of once.
func (r *readErrors) known(path string, first, last int64) bool {
	if len(r.seen) >= errorsKept {
		clear(r.seen)
	}
	known := r.seen[errorGrainOf{path, first - 1}]
	for g := first; g <= last; g++ {
		known = known || r.seen[errorGrainOf{path, g}]
		r.seen[errorGrainOf{path, g}] = true
	}
	return known
}

// allowed takes one token, if there is one.
func (r *readErrors) allowed() bool {
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
