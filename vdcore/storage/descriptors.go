package storage

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// fewIdle is what remains of maxIdle, a chain, when descriptors run short.
	fewIdle = 8
	// reserve are the descriptors left for all but image files: the connection to the
	// kernel, pipes, logs, and what is opened for a moment.
	reserve = 40
)

// openFiles counts the descriptors that files of this process hold.
var openFiles atomic.Int64

// MayOpen is how many descriptors the process may have.
func MayOpen() int64 { return mayOpen() }

var mayOpen = sync.OnceValue(func() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int64(limit.Cur)
})

// Room reports whether n more descriptors can be had without others failing for want
// of one.
func Room(n int) bool { return openFiles.Load()+int64(n)+reserve <= MayOpen() }

// Scarce reports whether image files hold so many that only few should stay open.
func Scarce() bool { return openFiles.Load() > MayOpen()/4 }

const (
	patience = 2 * time.Second
	pause    = 2 * time.Millisecond
)

// whenThereIs calls open until it does not fail for want of a descriptor: others are
// reading, and give theirs up in a moment.
func whenThereIs(open func() (*os.File, error)) (*os.File, error) {
	return insist(open, unix.EMFILE)
}

// openLeased calls open, which does not wait, until nobody has a lease on the file that
// keeps it from being written to. The kernel has asked them to give it back; those of this
// program (see unwritten) are gone already.
func openLeased(open func() (*os.File, error)) (*os.File, error) {
	f, err := insist(open, unix.EWOULDBLOCK)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w: %w", err, ErrLocked)
	}
	return f, err
}

// insist calls open while it fails for a reason, and for no longer than patience.
func insist(open func() (*os.File, error), reason error) (f *os.File, err error) {
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		f, err = open()
		if !errors.Is(err, reason) || time.Now().After(end) {
			return f, err
		}
	}
}
