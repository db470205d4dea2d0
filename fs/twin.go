package fs

import (
	"maps"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A disk the kernel reads by itself has a twin: another node of the same name, which
// the daemon answers. It is for whoever wants O_DIRECT while others have the disk open
// to be read by the kernel. The map is none that O_DIRECT works with, and all open
// files of one node must be read in the same way.
//
// So such an open is answered by ESTALE. The kernel then looks the name up again, once,
// in the same thread, before it gives up, and this time finds the twin. The name leads
// to the twin for this one open: the next lookup finds the disk again. What was open
// before by that name shows as "(deleted)" in /proc from then on, and a mount that lies
// on the name is taken off: the kernel's doing, when a name leads elsewhere.

// twinTime is how long a thread may take from ESTALE to its lookup. One that never
// comes (it was killed, or came without a name: /proc/self/fd) is forgotten then.
const twinTime = time.Second

// twins remembers which threads look for a twin. All threads of foreign PID namespaces
// are number 0; who finds a twin by mistake reads by request.
type twins struct {
	mu      sync.Mutex // guards what follows
	threads map[uint32]time.Time
}

// send has a thread find the twin.
func (t *twins) send(thread uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.threads == nil {
		t.threads = map[uint32]time.Time{}
	}
	maps.DeleteFunc(t.threads, func(_ uint32, since time.Time) bool { return time.Since(since) > twinTime })
	t.threads[thread] = time.Now()
}

func (t *twins) wanted(thread uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	since, ok := t.threads[thread]
	return ok && time.Since(since) <= twinTime
}

func (t *twins) found(thread uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.threads, thread)
}

func (t *tree) twin(n *node) uint64 { return n.id + uint64(len(t.nodes)) }

// openRouted opens a disk nobody writes to, or its twin.
func (r *rawFS) openRouted(n *node, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.NodeId != n.id {
		r.twins.found(in.Pid)
		out.Fh, out.OpenFlags = openTwin, openFlags
		return fuse.OK
	}
	st := n.route.open(r.kernel, in.Flags, out)
	if st == fuse.Status(unix.ESTALE) {
		r.twins.send(in.Pid)
	}
	return st
}
