package fs

import (
	"bytes"
	"encoding/json"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vdfs/vdcore"
)

// written is a mount of a chain that can be written, and what its disk should hold.
type written struct {
	*rawFS
	t     *testing.T
	chain *vdcore.Chain
	disk  uint64 // node
	want  []byte
}

func newWritten(t *testing.T) *written {
	t.Helper()
	log := &bytes.Buffer{}
	c := openWritable(t)
	w := &written{rawFS: newRaw(log, false, c), t: t, chain: c, want: make([]byte, diskSize)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log)
		}
	})
	w.disk = lookup(t, w.rawFS, "top", "disk.raw").NodeId
	copy(w.want[dataStart:], diskData(0))
	return w
}

func (w *written) header() fuse.InHeader { return fuse.InHeader{NodeId: w.disk} }

func (w *written) attr() fuse.AttrOut {
	var out fuse.AttrOut
	w.GetAttr(nil, &fuse.GetAttrIn{InHeader: w.header()}, &out)
	return out
}

// put writes, and wants n bytes written.
func (w *written) put(off int64, p []byte, n int) {
	w.t.Helper()
	got, st := w.Write(nil, &fuse.WriteIn{InHeader: w.header(), Offset: uint64(off), Size: uint32(len(p))}, p)
	if !st.Ok() || int(got) != n {
		w.t.Fatalf("write %d at %d: %v, %d bytes", len(p), off, st, got)
	}
	copy(w.want[off:], p[:n])
}

func (w *written) fallocate(mode uint32, off, n int64) fuse.Status {
	return w.Fallocate(nil, &fuse.FallocateIn{InHeader: w.header(), Mode: mode, Offset: uint64(off), Length: uint64(n)})
}

func (w *written) check() {
	w.t.Helper()
	got, st := readAt(w.rawFS, w.disk, 0, diskSize)
	if !st.Ok() || !bytes.Equal(got, w.want) {
		w.t.Fatalf("the disk is not what was written: %v, %d bytes", st, len(got))
	}
}

func pattern(n int, seed byte) []byte {
	return bytes.Repeat([]byte{seed | 1, seed ^ 0x55, 3}, n/3+1)[:n]
}

func TestWritableTree(t *testing.T) {
	c := openWritable(t)
	r := newRaw(&bytes.Buffer{}, false, c, openChain(t, 1, false))
	for path, want := range map[string]uint32{
		"top": syscall.S_IFDIR | 0o555, "top/disk.raw": syscall.S_IFREG | 0o644, "top/info.json": syscall.S_IFREG | 0o444,
		"top/snapshots/0-base.raw": syscall.S_IFREG | 0o444, "layer 0/disk.raw": syscall.S_IFREG | 0o444,
	} {
		e := lookup(t, r, strings.Split(path, "/")...)
		if e.Mode != want {
			t.Errorf("%s: mode %o, want %o", path, e.Mode, want)
		}
		timeout := cacheTime
		if path == "top/disk.raw" || path == "top/info.json" {
			timeout = writableAttrTime
		}
		if e.AttrTimeout() != timeout || e.EntryTimeout() != cacheTime {
			t.Errorf("%s: timeouts %v, %v", path, e.AttrTimeout(), e.EntryTimeout())
		}
	}
	for o, want := range map[*Options]uint32{
		{Umask: 0o027}: 0o640, {AllowRoot: true}: 0o600, {AllowRoot: true, AllowOther: true}: 0o644,
	} {
		o.Disks = []Source{{Chain: c}}
		if got := newTree(o, true).nodes[0].mode; got != syscall.S_IFREG|want {
			t.Errorf("%+v: mode %o, want %o", o, got, want)
		}
	}
}

func TestMountIsReadOnlyUnlessWritable(t *testing.T) {
	ro, rw := Source{Chain: openChain(t, 1, false)}, Source{Chain: openWritable(t)}
	for _, c := range []struct {
		disks []Source
		want  bool
	}{{[]Source{ro}, false}, {[]Source{ro, rw}, true}} {
		o := &Options{Disks: c.disks}
		caps := o.serverOptions().ExtraCapabilities
		if o.writable() != c.want || (caps&fuse.CAP_HANDLE_KILLPRIV_V2 != 0) != c.want || caps&fuse.CAP_WRITEBACK_CACHE != 0 {
			t.Errorf("%d disks: writable %v, capabilities %x", len(c.disks), o.writable(), caps)
		}
	}
}

func TestOpenWritable(t *testing.T) {
	w := newWritten(t)
	w.writeOnly = writeOnlyFlags
	snapshot := lookup(t, w.rawFS, "top", "snapshots", "0-base.raw").NodeId
	info := lookup(t, w.rawFS, "top", "info.json").NodeId
	for _, c := range []struct {
		node, flags uint32
		want        fuse.Status
		open        uint32
	}{
		{uint32(w.disk), unix.O_RDONLY, fuse.OK, openFlags},
		{uint32(w.disk), unix.O_WRONLY, fuse.OK, writeOnlyFlags},
		{uint32(w.disk), unix.O_RDWR | unix.O_DIRECT, fuse.OK, writeFlags},
		{uint32(w.disk), unix.O_RDWR | unix.O_TRUNC, fuse.EPERM, 0},
		{uint32(w.disk), unix.O_RDONLY | unix.O_TRUNC, fuse.EPERM, 0},
		{uint32(snapshot), unix.O_RDWR, fuse.EROFS, 0},
		{uint32(snapshot), unix.O_RDONLY, fuse.OK, openFlags},
		{uint32(info), unix.O_WRONLY, fuse.EROFS, 0},
	} {
		var out fuse.OpenOut
		in := &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: uint64(c.node)}, Flags: c.flags}
		if st := w.Open(nil, in, &out); st != c.want || out.OpenFlags != c.open {
			t.Errorf("node %d, open %o: %v, flags %x; want %v, %x", c.node, c.flags, st, out.OpenFlags, c.want, c.open)
		}
	}
	h := fuse.InHeader{NodeId: snapshot}
	if _, st := w.Write(nil, &fuse.WriteIn{InHeader: h}, make([]byte, 1)); st != fuse.EROFS {
		t.Errorf("write to a snapshot: %v", st)
	}
	if st := w.Fsync(nil, &fuse.FsyncIn{InHeader: h}); st != fuse.OK {
		t.Errorf("fsync of a snapshot: %v", st)
	}
	if st := w.Unlink(nil, &fuse.InHeader{NodeId: 2}, "disk.raw"); st != fuse.EROFS {
		t.Errorf("unlink: %v", st)
	}
	if st := w.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: w.header()}, "user.x", nil); st != fuse.EROFS {
		t.Errorf("setxattr: %v", st)
	}
}

func TestWrite(t *testing.T) {
	w := newWritten(t)
	w.put(0, pattern(4096, 1), 4096)
	w.put(dataStart+100, pattern(700, 2), 700)
	w.put(dataStart-100, pattern(200, 3), 200)
	w.put(diskSize-512, pattern(4096, 4), 512) // past the end: what fits
	w.check()
	for _, off := range []uint64{diskSize, diskSize + 4096, 1 << 63} {
		in := &fuse.WriteIn{InHeader: w.header(), Offset: off}
		if _, st := w.Write(nil, in, make([]byte, 512)); st != fuse.Status(unix.ENOSPC) {
			t.Errorf("write at %d: %v", off, st)
		}
	}
	if st := w.Fsync(nil, &fuse.FsyncIn{InHeader: w.header()}); !st.Ok() {
		t.Fatal(st)
	}
	w.check()
	base := lookup(t, w.rawFS, "top", "snapshots", "0-base.raw").NodeId
	if got, st := readAt(w.rawFS, base, dataStart, dataLength); !st.Ok() || !bytes.Equal(got, diskData(0)) {
		t.Errorf("the snapshot below: %v", st)
	}
}

// A disk that is written is never spliced, and what was read stays as it was.
func TestReadOfWritableIsCopied(t *testing.T) {
	w := newWritten(t)
	w.put(0, pattern(spliceMin, 1), spliceMin)
	buf := make([]byte, spliceMin)
	in := &fuse.ReadIn{InHeader: w.header(), Size: spliceMin}
	reply, st := w.Read(nil, in, buf)
	if !st.Ok() {
		t.Fatal(st)
	}
	defer reply.Done()
	if _, ok := reply.(*bytesReply); !ok {
		t.Errorf("%T", reply)
	}
	if newPipeReply(w.node(w.disk).writable().diskFile, 0, spliceMin) != nil {
		t.Error("the core offers a window")
	}
}

func TestFallocate(t *testing.T) {
	const (
		punch    = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		zero     = unix.FALLOC_FL_ZERO_RANGE
		keep     = unix.FALLOC_FL_KEEP_SIZE
		collapse = unix.FALLOC_FL_COLLAPSE_RANGE
	)
	w := newWritten(t)
	w.put(0, pattern(2*fakeUnit, 1), 2*fakeUnit)
	for _, c := range []struct {
		mode   uint32
		off, n int64
		want   syscall.Errno
		zeros  bool
	}{
		{punch, 0, fakeUnit, 0, true},
		{punch, fakeUnit + 512, 1024, 0, true},
		{punch, dataStart, fakeUnit, 0, true}, // held by the parent
		{punch, diskSize - 512, 1 << 30, 0, true},
		{punch, diskSize + 512, 512, 0, false},
		{zero, fakeUnit + 4096, 4096, 0, true},
		{zero | keep, dataStart + fakeUnit, 1 << 40, 0, true},
		{zero, diskSize - 512, 513, syscall.EFBIG, false},
		{0, 4096, 4096, 0, false},
		{0, diskSize - 512, 512, 0, false},
		{0, diskSize - 512, 513, syscall.EFBIG, false},
		{keep, diskSize - 512, 513, 0, false},
		{keep, diskSize, 1, 0, false},
		{unix.FALLOC_FL_PUNCH_HOLE, 0, 512, syscall.EOPNOTSUPP, false},
		{collapse, 0, 4096, syscall.EOPNOTSUPP, false},
		{0, 0, 0, syscall.EINVAL, false},
		{punch, -1, 512, syscall.EINVAL, false},
		{punch, 1, 1<<63 - 1, syscall.EINVAL, false},
	} {
		if st := w.fallocate(c.mode, c.off, c.n); st != fuse.Status(c.want) {
			t.Errorf("mode %x, %d bytes at %d: %v, want %v", c.mode, c.n, c.off, st, c.want)
		}
		if c.zeros {
			clear(w.want[c.off:min(c.off+c.n, diskSize)])
		}
		w.check()
	}
}

func TestAttributesFollowWrites(t *testing.T) {
	w := newWritten(t)
	before := w.attr()
	w.put(0, pattern(fakeUnit, 1), fakeUnit)
	after := w.attr()
	if after.Blocks != before.Blocks+fakeUnit/512 {
		t.Errorf("%d blocks after writing a unit, %d before", after.Blocks, before.Blocks)
	}
	if !after.ModTime().After(before.ModTime()) || after.Size != before.Size {
		t.Errorf("mtime %v after %v, size %d after %d", after.ModTime(), before.ModTime(), after.Size, before.Size)
	}
	if st := w.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, fakeUnit); !st.Ok() {
		t.Fatal(st)
	}
	punched := w.attr()
	if punched.Blocks != before.Blocks || !punched.ModTime().After(after.ModTime()) {
		t.Errorf("punched: %d blocks, mtime %v", punched.Blocks, punched.ModTime())
	}
}

func TestSetAttr(t *testing.T) {
	w := newWritten(t)
	set := func(in fuse.SetAttrInCommon) (fuse.AttrOut, fuse.Status) {
		var out fuse.AttrOut
		in.InHeader = w.header()
		st := w.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: in}, &out)
		return out, st
	}
	for _, c := range []struct {
		in   fuse.SetAttrInCommon
		want fuse.Status
	}{
		{fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE, Size: 0}, fuse.EPERM},
		{fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE, Size: diskSize + 512}, fuse.EPERM},
		{fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE | fuse.FATTR_FH, Size: diskSize}, fuse.OK},
		{fuse.SetAttrInCommon{Valid: fuse.FATTR_MODE, Mode: 0o600}, fuse.EPERM},
		{fuse.SetAttrInCommon{Valid: fuse.FATTR_UID}, fuse.EPERM},
		{fuse.SetAttrInCommon{Valid: fuse.FATTR_GID}, fuse.EPERM},
		{fuse.SetAttrInCommon{Valid: fuse.FATTR_ATIME, Atime: 5}, fuse.OK},
	} {
		if _, st := set(c.in); st != c.want {
			t.Errorf("valid %x: %v, want %v", c.in.Valid, st, c.want)
		}
	}
	out, st := set(fuse.SetAttrInCommon{Valid: fuse.FATTR_MTIME, Mtime: 1e9, Mtimensec: 7})
	want := time.Unix(1e9, 7)
	if again := w.attr(); !st.Ok() || !out.ModTime().Equal(want) || !again.ModTime().Equal(want) || out.Size != diskSize {
		t.Errorf("mtime set: %v, %+v", st, out)
	}
	if out, _ = set(fuse.SetAttrInCommon{Valid: fuse.FATTR_MTIME | fuse.FATTR_MTIME_NOW}); time.Since(out.ModTime()) > time.Minute {
		t.Errorf("touched: %v", out.ModTime())
	}
}

func TestInfoOfWritable(t *testing.T) {
	w := newWritten(t)
	for path, want := range map[*rawFS]bool{w.rawFS: true, newRaw(&bytes.Buffer{}, false, openChain(t, 1, false)): false} {
		var info Info
		text := path.nodes[1].index["info.json"].content.(*infoFile).text()
		if err := json.Unmarshal(text, &info); err != nil || info.Writable != want {
			t.Errorf("writable %v, want %v; %v", info.Writable, want, err)
		}
	}
}

// Reads, writes and holes from many goroutines, each in ranges of its own.
func TestParallelWrites(t *testing.T) {
	w := newWritten(t)
	var wg sync.WaitGroup
	const part = 1 << 20 / 8
	for g := range int64(8) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			mine := w.want[g*part : (g+1)*part]
			for range 100 {
				off, n := rnd.Int64N(part-8192), rnd.Int64N(8191)+1
				h := fuse.InHeader{NodeId: w.disk}
				at := uint64(g*part + off)
				if rnd.IntN(4) == 0 {
					clear(mine[off : off+n])
					w.Fallocate(nil, &fuse.FallocateIn{InHeader: h, Mode: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, Offset: at, Length: uint64(n)})
				} else {
					copy(mine[off:], pattern(int(n), byte(rnd.Int())))
					w.Write(nil, &fuse.WriteIn{InHeader: h, Offset: at}, mine[off:off+n])
				}
				if got, st := readAt(w.rawFS, w.disk, g*part, part); !st.Ok() || !bytes.Equal(got, mine) {
					t.Errorf("part %d: %v", g, st)
					return
				}
			}
			w.Fsync(nil, &fuse.FsyncIn{InHeader: w.header()})
		})
	}
	wg.Wait()
	w.check()
}

// What was written is there when the chain is opened again, and the image finished.
func TestCloseFinishes(t *testing.T) {
	c := openWritable(t)
	r := newRaw(&bytes.Buffer{}, false, c)
	disk := lookup(t, r, "top", "disk.raw").NodeId
	if _, st := r.Write(nil, &fuse.WriteIn{InHeader: fuse.InHeader{NodeId: disk}}, pattern(4096, 1)); !st.Ok() {
		t.Fatal(st)
	}
	finished := fakeFinished.Load()
	o := Options{Disks: []Source{{Chain: c}}}
	if err := o.closeChains(); err != nil || !finished.Load() {
		t.Fatalf("close: %v, finished: %v", err, finished.Load())
	}
	again, err := vdcore.Open(c.Layers()[1].Path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	got := make([]byte, 4096)
	if _, err := again.Top().ReadAt(got, 0); err != nil || !bytes.Equal(got, pattern(4096, 1)) {
		t.Errorf("opened again: %v", err)
	}
}

// A failing write is told to the caller each time and logged once.
func TestWriteErrors(t *testing.T) {
	var log bytes.Buffer
	c := openWritable(t)
	r := newRaw(&log, false, c)
	disk := lookup(t, r, "top", "disk.raw").NodeId
	f := r.node(disk).writable()
	full := fmt.Errorf("x: %w", &iofs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC})
	for range 3 {
		if err := f.reported("write", 4096, 512, full); status(err) != fuse.Status(unix.ENOSPC) {
			t.Fatal(err)
		}
		f.reported("write", 4096, 512, os.ErrClosed) // another cause
		f.reported("sync", 0, 0, os.ErrClosed)
	}
	if n := strings.Count(log.String(), "\n"); n != 3 || !strings.Contains(log.String(), "write failed") || !strings.Contains(log.String(), "sync failed") {
		t.Errorf("%d lines logged:\n%s", n, log.String())
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	in := &fuse.WriteIn{InHeader: fuse.InHeader{NodeId: disk}}
	if _, st := r.Write(nil, in, make([]byte, 512)); st != fuse.EIO {
		t.Errorf("write after close: %v", st)
	}
	if st := r.Fsync(nil, &fuse.FsyncIn{InHeader: in.InHeader}); st != fuse.EIO {
		t.Errorf("fsync after close: %v", st)
	}
}

// forgetful takes note of what the kernel is told to forget, lengths by offset.
type forgetful map[int64]int64

func (k forgetful) RegisterBackingFd(*fuse.BackingMap) (int32, syscall.Errno) {
	return 0, syscall.EOPNOTSUPP
}

func (k forgetful) InodeNotify(_ uint64, off, length int64) fuse.Status {
	k[off] = length
	return fuse.OK
}

// After a discard that failed the kernel must not go on showing its old pages.
func TestFailedDiscardIsForgotten(t *testing.T) {
	w := newWritten(t)
	k := forgetful{}
	w.kernel = k
	if st := w.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096); !st.Ok() || len(k) != 0 {
		t.Errorf("a discard: %v, told %v", st, k)
	}
	if err := w.chain.Close(); err != nil {
		t.Fatal(err)
	}
	if st := w.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 512, 1024); st != fuse.EIO || k[512] != 1024 {
		t.Errorf("a discard that fails: %v, told %v", st, k)
	}
}
