package fs

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	errorGrain  = 1 << 20          // a range is the same as long as it lies in the same MiB
	errorsKept  = 4096             // ranges remembered; then the memory starts anew
	errorsBurst = 20               // lines written at once
	errorsEvery = 10 * time.Second // one more line after that
)

// readErrors logs failing reads, each range once and never in a flood: a tool
// that walks over a damaged disk asks for millions of sectors.
type readErrors struct {
	log zerolog.Logger
	now func() time.Time

	mu         sync.Mutex
	seen       map[errorRange]bool
	tokens     int       // lines that may be written now
	refilled   time.Time // when tokens was last added to
	suppressed int       // ranges not written since the last line
}

type errorRange struct {
	path  string
	grain int64
}

func newReadErrors(log zerolog.Logger) *readErrors {
	return &readErrors{log: log, now: time.Now, seen: map[errorRange]bool{}, tokens: errorsBurst}
}

// report logs that n bytes at off of a file of the mount could not be read.
func (r *readErrors) report(path string, off, n int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := errorRange{path, off / errorGrain}
	if r.seen[key] {
		return
	}
	if len(r.seen) >= errorsKept {
		clear(r.seen)
	}
	r.seen[key] = true
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
