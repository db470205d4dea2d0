package fs

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"vdfs/vdcore"
)

// passing is a kernel that takes files to read by itself, or fails to.
type passing struct {
	forgetful
	taken []int32 // descriptors
	errno syscall.Errno
}

func (k *passing) RegisterBackingFd(m *fuse.BackingMap) (int32, syscall.Errno) {
	k.taken = append(k.taken, m.Fd)
	return int32(len(k.taken)), k.errno
}

// routed is a mount of one chain whose disks have a shortcut.
type routed struct {
	*rawFS
	t      *testing.T
	kernel *passing
	log    bytes.Buffer
	disk   uint64
}

func newRouted(t *testing.T, c *vdcore.Chain, must KernelReads, find shortcut) *routed {
	r := &routed{t: t, kernel: &passing{}}
	o := &Options{Log: zerolog.New(&r.log), KernelReads: must, find: find, Disks: []Source{{Name: "d", Chain: c}}}
	r.rawFS = &rawFS{readOnly: newReadOnly(), tree: newTree(o, false), kernel: r.kernel}
	r.disk = lookup(t, r.rawFS, "d", "disk.raw").NodeId
	t.Cleanup(func() {
		if err := r.closeRoutes(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// own is a shortcut to some file.
func own(plain bool) shortcut {
	return func(*diskFile, *limits) (kernelFile, bool, error) {
		f, err := os.Open(os.DevNull)
		return f, plain, err
	}
}

// opened opens the disk by its name, as the kernel does for a thread, and returns the
// node and how to read it.
func (r *routed) opened(flags, thread uint32) (node uint64, out fuse.OpenOut, st fuse.Status) {
	r.t.Helper()
	dir := lookup(r.t, r.rawFS, "d").NodeId
	for range 2 { // the second time after ESTALE
		var e fuse.EntryOut
		r.Lookup(nil, &fuse.InHeader{NodeId: dir, Caller: fuse.Caller{Pid: thread}}, "disk.raw", &e)
		out = fuse.OpenOut{}
		st = r.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: e.NodeId, Caller: fuse.Caller{Pid: thread}}, Flags: flags}, &out)
		if node = e.NodeId; st != fuse.Status(unix.ESTALE) {
			break
		}
	}
	return node, out, st
}

func (r *routed) mustOpen(flags, thread uint32) (node uint64, out fuse.OpenOut) {
	r.t.Helper()
	node, out, st := r.opened(flags, thread)
	if !st.Ok() {
		r.t.Fatal(st)
	}
	return node, out
}

func (r *routed) close(node uint64, out fuse.OpenOut) {
	r.Release(nil, &fuse.ReleaseIn{InHeader: fuse.InHeader{NodeId: node}, Fh: out.Fh})
}

func passes(out fuse.OpenOut) bool { return out.OpenFlags&fuse.FOPEN_PASSTHROUGH != 0 }

func (r *routed) info() PathTaken {
	r.t.Helper()
	text, st := readAt(r.rawFS, lookup(r.t, r.rawFS, "d", "info.json").NodeId, 0, 1<<20)
	var i Info
	if err := json.Unmarshal(text, &i); err != nil || !st.Ok() {
		r.t.Fatal(st, err)
	}
	return i.Path
}

// TestPassed: the kernel gets one file for all that open the disk, and none but the
// flags it allows.
func TestPassed(t *testing.T) {
	r := newRouted(t, openChain(t, 2, false), KernelAuto, own(false))
	for range 3 {
		_, out := r.mustOpen(unix.O_RDONLY, 7)
		if out.OpenFlags != fuse.FOPEN_PASSTHROUGH|fuse.FOPEN_NOFLUSH || out.BackingID != 1 {
			t.Fatalf("%+v", out)
		}
	}
	if len(r.kernel.taken) != 1 || r.info().Taken != PathKernel {
		t.Errorf("files %v, path %v", r.kernel.taken, r.info())
	}
	lower := lookup(t, r.rawFS, "d", "snapshots", "0-layer 0.raw").NodeId
	var out fuse.OpenOut
	if st := r.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: lower}}, &out); !st.Ok() || out.BackingID != 2 {
		t.Errorf("a snapshot: %v, %+v", st, out)
	}
}

// TestNeverBoth: while the disk is read through its page cache nobody goes past it,
// and the other way round; O_DIRECT finds the twin.
func TestNeverBoth(t *testing.T) {
	ready := make(chan struct{})
	r := newRouted(t, openChain(t, 1, false), KernelAuto, func(f *diskFile, l *limits) (kernelFile, bool, error) {
		<-ready
		return own(false)(f, l)
	})
	early, slow := r.mustOpen(unix.O_RDONLY, 7)
	close(ready)
	r.nodes[early-1].route.decide(true)
	late, also := r.mustOpen(unix.O_RDONLY, 8)
	if passes(slow) || passes(also) || slow.OpenFlags != openFlags {
		t.Fatalf("%+v, %+v: past the cache, with the disk open", slow, also)
	}
	r.close(early, slow)
	r.close(late, also)
	node, direct := r.mustOpen(unix.O_DIRECT, 9)
	_, beside := r.mustOpen(unix.O_RDONLY, 7)
	if node != r.disk || passes(direct) || passes(beside) {
		t.Errorf("node %d, %+v, %+v: O_DIRECT alone", node, direct, beside)
	}
	r.close(node, direct)
	r.close(node, beside)
	_, first := r.mustOpen(unix.O_RDONLY, 7)
	for range 2 {
		twin, direct := r.mustOpen(unix.O_DIRECT, 9)
		if !passes(first) || twin == r.disk || passes(direct) {
			t.Fatalf("%+v; node %d, %+v: O_DIRECT beside the kernel", first, twin, direct)
		}
		p, st := readAt(r.rawFS, twin, dataStart, 512)
		if want := diskData(0)[:512]; !st.Ok() || !bytes.Equal(p, want) {
			t.Errorf("the twin reads %v", st)
		}
		r.close(twin, direct)
	}
	if node, out := r.mustOpen(unix.O_RDONLY, 9); node != r.disk || !passes(out) {
		t.Errorf("node %d, %+v: the name still leads to the twin", node, out)
	}
}

// TestLostTwin: a thread that was sent to the twin and never went there (io_uring, a
// name that is none) is not barred from it, and is forgotten.
func TestLostTwin(t *testing.T) {
	r := newRouted(t, openChain(t, 1, false), KernelAuto, own(false))
	_, first := r.mustOpen(unix.O_RDONLY, 7)
	reopen := func(thread uint32) fuse.Status { // through /proc/self/fd: no lookup
		in := &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: r.disk, Caller: fuse.Caller{Pid: thread}}, Flags: unix.O_DIRECT}
		return r.Open(nil, in, &fuse.OpenOut{})
	}
	for _, thread := range []uint32{9, 9, 0} {
		if st := reopen(thread); st != fuse.Status(unix.ESTALE) {
			t.Errorf("thread %d: %v", thread, st)
		}
		if node, _ := r.mustOpen(unix.O_DIRECT, thread); node == r.disk {
			t.Errorf("thread %d does not find the twin", thread)
		}
	}
	reopen(9)
	r.twins.threads[9] = r.twins.threads[9].Add(-2 * twinTime)
	if node, out := r.mustOpen(unix.O_RDONLY, 9); node != r.disk || !passes(out) {
		t.Errorf("node %d: the thread is still sent to the twin", node)
	}
	reopen(8)
	if len(r.twins.threads) != 1 {
		t.Errorf("%d threads remembered", len(r.twins.threads))
	}
	r.close(r.disk, first)
}

// TestReleased: when the last file the kernel reads is closed, O_DIRECT needs no twin.
func TestReleased(t *testing.T) {
	r := newRouted(t, openChain(t, 1, false), KernelAuto, own(false))
	for range 2 {
		node, out := r.mustOpen(unix.O_RDONLY, 7)
		if !passes(out) {
			t.Fatalf("%+v", out)
		}
		r.close(node, out)
		node, out = r.mustOpen(unix.O_DIRECT, 7)
		if node != r.disk {
			t.Errorf("node %d", node)
		}
		if p := r.info(); p.Taken != PathRequests {
			t.Errorf("while it is open by O_DIRECT: %+v", p)
		}
		r.close(node, out)
		if p := r.info(); p.Taken != PathKernel {
			t.Errorf("closed: %+v", p)
		}
	}
}

// TestTwinEntry: the name of the twin is not kept.
func TestTwinEntry(t *testing.T) {
	r := newRouted(t, openChain(t, 1, false), KernelAuto, own(false))
	r.mustOpen(unix.O_RDONLY, 7)
	h := fuse.InHeader{NodeId: r.disk, Caller: fuse.Caller{Pid: 9}}
	r.Open(nil, &fuse.OpenIn{InHeader: h, Flags: unix.O_DIRECT}, &fuse.OpenOut{})
	var out fuse.EntryOut
	r.Lookup(nil, &fuse.InHeader{NodeId: lookup(t, r.rawFS, "d").NodeId, Caller: h.Caller}, "disk.raw", &out)
	if out.NodeId == r.disk || out.EntryTimeout() != 0 || out.Attr.Ino != r.nodes[r.disk-1].ino {
		t.Errorf("%+v", out)
	}
}

// TestStopped: a map nobody wants any more is not waited for, and others not begun.
func TestStopped(t *testing.T) {
	var l *limits
	begun := make(chan struct{})
	r := newRouted(t, openChain(t, 2, false), KernelAuto, func(_ *diskFile, lim *limits) (kernelFile, bool, error) {
		l = lim
		close(begun) // a second time panics
		for !lim.stop.Load() {
			runtime.Gosched()
		}
		return nil, false, errStopped
	})
	r.beginRoutes()
	<-begun
	r.nodes[lookup(t, r.rawFS, "d", "snapshots", "0-layer 0.raw").NodeId-1].route.begin()
	if err := r.closeRoutes(); err != nil || l != &r.limits || r.log.Len() > 0 {
		t.Errorf("%v, %q", err, r.log.String())
	}
}

// TestOpensBesideTheMap: opens while the path becomes known; the race detector looks on.
func TestOpensBesideTheMap(t *testing.T) {
	ready := make(chan struct{})
	r := newRouted(t, openChain(t, 1, false), KernelAuto, func(f *diskFile, l *limits) (kernelFile, bool, error) {
		<-ready
		return own(true)(f, l)
	})
	var all sync.WaitGroup
	for thread := range uint32(8) {
		all.Go(func() {
			for range 50 {
				out := fuse.OpenOut{}
				in := &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: r.disk, Caller: fuse.Caller{Pid: thread}}, Flags: unix.O_DIRECT * (thread % 2)}
				if st := r.Open(nil, in, &out); st.Ok() {
					r.close(r.disk, out)
				}
			}
		})
	}
	r.nodes[r.disk-1].route.decide(false)
	close(ready)
	all.Wait()
	if route := r.nodes[r.disk-1].route; route.cached != 0 || route.passed != 0 {
		t.Errorf("%d and %d open files counted", route.cached, route.passed)
	}
}

// TestPlainDirect: an image's own file takes O_DIRECT.
func TestPlainDirect(t *testing.T) {
	r := newRouted(t, openChain(t, 1, false), KernelAuto, own(true))
	r.mustOpen(unix.O_RDONLY, 7)
	if node, out := r.mustOpen(unix.O_DIRECT, 7); node != r.disk || !passes(out) {
		t.Errorf("node %d, %+v", node, out)
	}
	if p := r.info(); p.Taken != PathPassthrough {
		t.Errorf("%+v", p)
	}
}

// TestFallBack: what cannot be is read by request, said once, and refused only if it
// was required.
func TestFallBack(t *testing.T) {
	none := func(*diskFile, *limits) (kernelFile, bool, error) { return nil, false, errors.New("no such kernel") }
	for name, c := range map[string]struct {
		find  shortcut
		errno syscall.Errno
	}{"no file": {none, 0}, "not taken": {own(false), syscall.EOPNOTSUPP}} {
		r := newRouted(t, openChain(t, 2, false), KernelAuto, c.find)
		r.kernel.errno = c.errno
		for range 3 {
			if _, out := r.mustOpen(unix.O_RDONLY, 7); passes(out) || out.OpenFlags != openFlags {
				t.Errorf("%s: %+v", name, out)
			}
			if node, out := r.mustOpen(unix.O_DIRECT, 7); node != r.disk || passes(out) {
				t.Errorf("%s: O_DIRECT: node %d, %+v", name, node, out)
			}
		}
		lower := lookup(t, r.rawFS, "d", "snapshots", "0-layer 0.raw").NodeId
		if st := r.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: lower}}, &fuse.OpenOut{}); !st.Ok() {
			t.Errorf("%s: a snapshot: %v", name, st)
		}
		if p := r.info(); p.Taken != PathRequests || p.Reason == "" || strings.Count(r.log.String(), "\n") != 1 {
			t.Errorf("%s: %+v\n%s", name, p, r.log.String())
		}
		must := newRouted(t, openChain(t, 1, false), KernelRequire, c.find)
		must.kernel.errno = c.errno
		if _, _, st := must.opened(unix.O_RDONLY, 7); st != fuse.Status(unix.EOPNOTSUPP) {
			t.Errorf("%s, required: %v", name, st)
		}
		if err := must.checkRoutes(); err == nil {
			t.Errorf("%s: required, and mounted", name)
		}
	}
}

// TestInfoBefore: what nobody has opened is not mapped for a look at its attributes.
func TestInfoBefore(t *testing.T) {
	r := newRouted(t, openChain(t, 1, false), KernelAuto, own(false))
	if p := r.info(); p.Taken != PathRequests || len(r.kernel.taken) != 0 {
		t.Errorf("before: %+v", p)
	}
	info := lookup(t, r.rawFS, "d", "info.json").NodeId
	if st := r.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: info}}, &fuse.OpenOut{}); !st.Ok() {
		t.Fatal(st)
	}
	if p := r.info(); p.Taken != PathKernel {
		t.Errorf("after info.json was opened: %+v", p)
	}
}
