package fs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A disk the kernel reads by itself has a twin: another node of the same name, which
// the daemon answers. It is for whoever wants O_DIRECT while others have the disk open
// to be read by the kernel. The map is none that O_DIRECT works with, and all open
// files of one node must be read in the same way.
//
// So such an open is answered by ESTALE. The kernel then looks the name up again, in
// the same thread, before it gives up, and this time finds the twin. The name leads to
// the twin for this one open: the next lookup finds the disk again.

// twins remembers which threads look for a twin.
type twins struct {
	mu      sync.Mutex // guards what follows
	threads map[uint32]bool
}

// send has a thread find the twin. It reports whether that is worth a try: who comes
// back to the disk itself, through /proc/self/fd, would do so for ever.
func (t *twins) send(thread uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if thread == 0 || t.threads[thread] { // 0: of another PID namespace
		delete(t.threads, thread)
		return false
	}
	if t.threads == nil {
		t.threads = map[uint32]bool{}
	}
	t.threads[thread] = true
	return true
}

func (t *twins) wanted(thread uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.threads[thread]
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
	if st == fuse.Status(unix.ESTALE) && !r.twins.send(in.Pid) {
		return fuse.EINVAL
	}
	return st
}
