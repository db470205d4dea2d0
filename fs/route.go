package fs

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// KernelReads says whether the kernel may read disks past the daemon.
type KernelReads int

const (
	KernelAuto    KernelReads = iota // where it can
	KernelOff                        // never
	KernelRequire                    // where it cannot, mounting and opening fail
)

// The paths a read can take.
const (
	PathKernel      = "kernel"      // the kernel has the map of the disk
	PathPassthrough = "passthrough" // the image is the disk, byte for byte
	PathRequests    = "requests"    // the daemon answers every read
)

// PathTaken is how the bytes reach the reader, and why so.
type PathTaken struct {
	Taken  string `json:"taken"` // one of the above
	Reason string `json:"reason"`
}

// patience is how long after its beginning opens wait for the kernel's map. Most are
// made in milliseconds; the table of a large one is made behind, and files opened
// meanwhile are read by request.
const patience = 300 * time.Millisecond

// settling is how long after a map was made the memory it took is given back, and that
// for opening a long chain, which are never needed again. To collect them takes as long
// as to mount, and is for when nobody waits.
const settling = time.Second

// errNotAsked: --kernel-reads=off.
var errNotAsked = errors.New("reads through the kernel were turned off")

// errStopped: the mount ended while the map was made.
var errStopped = errors.New("the mount has ended")

// shortcut makes a file the kernel can read instead of asking the daemon; plain
// says that it is an image's own.
type shortcut func(f *diskFile, l *limits) (file kernelFile, plain bool, err error)

// limits are what all maps of a mount may take together. One is made at a time, under
// mu: they take processor time, descriptors and memory while they are.
type limits struct {
	stop atomic.Bool // nobody wants another one

	mu      sync.Mutex // held while a map is made; guards what follows
	written int64      // bytes of all maps, at most maxMaps
	held    int64      // of them, those kept in memory, at most maxHeld
}

// kernelFile is a file the kernel reads by itself.
type kernelFile interface {
	Fd() uintptr
	Close() error
}

// route is how one disk is read. It is decided once, that of a topmost disk when it is
// prepared (see Server), of others when they are first opened; then files opened go
// either way, but never both at a time: the kernel fails the open of a file that is to be
// read past its page cache while another one is read through it.
type route struct {
	disk   *diskFile
	find   shortcut
	limits *limits
	must   bool // KernelRequire
	said   *reasons
	start  sync.Once
	begun  atomic.Bool // set by start, with
	began  time.Time
	done   chan struct{} // closed when what follows is known, which register may change
	file   kernelFile    // nil without
	taken  PathTaken
	failed error

	mu     sync.Mutex // guards the above, once done is closed, and what follows
	id     int32      // the kernel's name for file; 0 before the first open
	cached int        // open files that may use the page cache
	passed int        // open files that go past the daemon
}

// reasons logs why disks are read by request, each reason once for all disks.
type reasons struct {
	log zerolog.Logger

	mu   sync.Mutex // guards what follows
	said map[string]bool
}

func newReasons(log zerolog.Logger) *reasons { return &reasons{log: log, said: map[string]bool{}} }

func (r *reasons) say(path, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.said[reason] {
		r.said[reason] = true
		r.log.Debug().Msgf("%s: the daemon answers reads: %s", path, reason)
	}
}

func newRoute(disk *diskFile, t *tree) *route {
	return &route{
		disk: disk, find: t.options.shortcut(), limits: &t.limits,
		must: t.options.KernelReads == KernelRequire, said: t.reasons, done: make(chan struct{}),
	}
}

// begin begins to look for the best path.
func (r *route) begin() {
	r.start.Do(func() {
		r.began = time.Now()
		r.begun.Store(true)
		go func() {
			if r.look() {
				time.AfterFunc(settling, debug.FreeOSMemory)
			}
		}()
	})
}

// decide begins, too, and waits: for long if need be, or as long as an open may take.
// It reports whether the path is known.
func (r *route) decide(long bool) bool {
	r.begin()
	if long {
		<-r.done
		return true
	}
	timeout := time.NewTimer(max(0, patience-time.Since(r.began)))
	defer timeout.Stop()
	select {
	case <-r.done:
		return true
	case <-timeout.C:
	}
	select {
	case <-r.done: // both, of which the above takes either
		return true
	default:
		return false
	}
}

// look finds out how the disk is read, and reports whether a map was made.
func (r *route) look() (mapped bool) {
	defer close(r.done)
	r.limits.mu.Lock()
	defer r.limits.mu.Unlock()
	if r.limits.stop.Load() {
		r.fail(errStopped)
		return false
	}
	file, plain, err := r.find(r.disk, r.limits)
	switch {
	case err != nil:
		r.fail(err)
	case plain:
		r.file, r.taken = file, PathTaken{PathPassthrough, "the image is the disk, byte for byte"}
	default:
		r.file, r.taken = file, PathTaken{PathKernel, "the kernel has the map of the disk"}
		return true
	}
	return false
}

func (r *route) fail(err error) {
	r.failed, r.taken = err, PathTaken{PathRequests, err.Error()}
	if !errors.Is(err, errNotAsked) && !errors.Is(err, errStopped) {
		r.said.say(r.disk.path, r.taken.Reason)
	}
}

// path is what is known by now. A disk that is written has no route.
func (r *route) path() PathTaken {
	if r == nil {
		return PathTaken{PathRequests, "what is written goes through the daemon"}
	}
	select {
	case <-r.done:
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.file != nil && r.cached > 0 {
			return PathTaken{PathRequests, "the disk was opened before the kernel's map was ready, or by O_DIRECT, and still is; then all read by request"}
		}
		return r.taken
	default:
		if !r.begun.Load() {
			return PathTaken{PathRequests, "nobody has opened the disk yet"}
		}
		return PathTaken{PathRequests, "the kernel's map is being made"}
	}
}

// Kinds of open files, which are the low bits of handles as well.
const (
	openTwin = iota
	openCached
	openPassed
)

// open says how a file that is opened with flags is read. ESTALE: by O_DIRECT, which
// the kernel's map has not, while others read by the map.
func (r *route) open(k kernel, flags uint32, out *fuse.OpenOut) fuse.Status {
	known := r.decide(r.must)
	r.mu.Lock()
	defer r.mu.Unlock()
	direct := flags&unix.O_DIRECT != 0 && !(known && r.taken.Taken == PathPassthrough)
	switch {
	case known && !direct && r.cached == 0 && r.register(k):
		r.passed++
		out.Fh, out.OpenFlags, out.BackingID = openPassed, passFlags, r.id
	case r.must && r.failed != nil:
		return fuse.Status(unix.EOPNOTSUPP)
	case r.passed > 0:
		return fuse.Status(unix.ESTALE)
	default:
		r.cached++
		out.Fh, out.OpenFlags = openCached, openFlags
	}
	return fuse.OK
}

// register gives the kernel its file, the first time. What has a file but cannot be
// registered is read by request.
func (r *route) register(k kernel) bool {
	if r.file == nil || r.id != 0 {
		return r.file != nil
	}
	id, errno := k.RegisterBackingFd(&fuse.BackingMap{Fd: int32(r.file.Fd())})
	if errno == 0 {
		r.id = id
		return true
	}
	err := fmt.Errorf("this kernel does not pass reads on: %w", errno)
	if errno == unix.ELOOP {
		err = fmt.Errorf("the image lies on file systems stacked too deep: %w", errno)
	}
	r.fail(errors.Join(err, r.file.Close()))
	r.file = nil
	return false
}

// release takes back what open has counted.
func (r *route) release(handle uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch handle {
	case openCached:
		r.cached--
	case openPassed:
		r.passed--
	}
}

// close gives the file up, and with it the mount it is in. Nobody opens the disk any
// more; a map that is still being made stops at limits.stop.
func (r *route) close() error {
	unused := false
	r.start.Do(func() { unused = true })
	if unused {
		return nil
	}
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}
