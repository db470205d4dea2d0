package fs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{vdcore.ErrLost, syscall.EIO},
		{fmt.Errorf("x: %w: %w", vdcore.ErrLost, iofs.ErrNotExist), syscall.EIO},
		{vdcore.ErrCorrupt, syscall.EIO},
		{&iofs.PathError{Op: "open", Err: syscall.ENOENT}, syscall.ENOENT},
		{vdcore.ErrReadOnly, syscall.EROFS},
		{vdcore.ErrInUse, syscall.EBUSY},
		{fmt.Errorf("x: %w", vdcore.ErrNoSpace), syscall.ENOSPC},
		{fmt.Errorf("x: %w", storage.ErrNoAllocate), syscall.EOPNOTSUPP},
		{fmt.Errorf("x: %w", &iofs.PathError{Op: "write", Err: syscall.ENOSPC}), syscall.ENOSPC},
		{errors.Join(&iofs.PathError{Op: "write", Err: syscall.EDQUOT}), syscall.EDQUOT},
		{&iofs.PathError{Op: "write", Err: syscall.EFBIG}, syscall.EFBIG},
		{&iofs.PathError{Op: "write", Err: syscall.EIO}, syscall.EIO},
		{&iofs.PathError{Op: "write", Err: syscall.EAGAIN}, syscall.EIO},
		{syscall.ENXIO, syscall.ENXIO},
		{syscall.ENOSYS, syscall.EIO}, // would tell the kernel to stop asking
		{errors.New("anything"), syscall.EIO},
	} {
		if got := status(c.err); got != fuse.Status(c.want) {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestTree(t *testing.T) {
	r := newRaw(&bytes.Buffer{}, false, openChain(t, 3, false), openChain(t, 1, false))
	var paths []string
	seen := map[uint64]bool{}
	for _, n := range r.nodes {
		paths = append(paths, n.path)
		if seen[n.ino] || n.ino == 0 {
			t.Errorf("%s: inode %d twice, or none", n.path, n.ino)
		}
		seen[n.ino] = true
	}
	slices.Sort(paths)
	want := []string{
		"", "layer 0", "layer 0/disk.raw", "layer 0/info.json", "layer 0/snapshots",
		"layer 2", "layer 2/disk.raw", "layer 2/info.json", "layer 2/snapshots",
		"layer 2/snapshots/0-layer 0", "layer 2/snapshots/0-layer 0.raw",
		"layer 2/snapshots/1-layer 1", "layer 2/snapshots/1-layer 1.raw",
	}
	if !slices.Equal(paths, want) {
		t.Errorf("tree:\n%q\nwant\n%q", paths, want)
	}
	again := newRaw(&bytes.Buffer{}, false, openChain(t, 3, false))
	if a, b := lookup(t, r, "layer 2", "disk.raw").Ino, lookup(t, again, "layer 2", "disk.raw").Ino; a != b {
		t.Errorf("inode number changes from mount to mount: %d, %d", a, b)
	}
}

func TestAttributes(t *testing.T) {
	c := openChain(t, 2, false)
	r := newRaw(&bytes.Buffer{}, false, c)
	st, err := os.Stat(c.Layers()[1].Path)
	if err != nil {
		t.Fatal(err)
	}
	e := lookup(t, r, "layer 1", "disk.raw")
	if e.Size != diskSize || e.Blocks != dataLength/512 || e.Mode != syscall.S_IFREG|0o444 || e.Nlink != 1 {
		t.Errorf("disk.raw: %+v", e.Attr)
	}
	if !e.ModTime().Equal(st.ModTime()) || e.Uid != uint32(os.Geteuid()) {
		t.Errorf("disk.raw: mtime %v, uid %d", e.ModTime(), e.Uid)
	}
	if e.AttrTimeout() != cacheTime || e.EntryTimeout() != cacheTime {
		t.Errorf("timeouts: %v, %v", e.AttrTimeout(), e.EntryTimeout())
	}
	var out fuse.AttrOut
	r.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}}, &out)
	if out.Mode != syscall.S_IFDIR|0o555 || out.Nlink != 3 || out.Ino != 1 {
		t.Errorf("root: %+v", out.Attr)
	}
	var sf fuse.StatfsOut
	if r.StatFs(nil, &fuse.InHeader{NodeId: 1}, &sf); sf.Blocks != (diskSize+4095)/4096 || sf.Bfree != 0 || sf.Bsize != 4096 {
		t.Errorf("statfs: %+v", sf)
	}
	var none fuse.EntryOut
	if st := r.Lookup(nil, &fuse.InHeader{NodeId: 1}, "none", &none); !st.Ok() || none.NodeId != 0 || none.EntryTimeout() != cacheTime {
		t.Errorf("a name that is not there: %v, %+v", st, none)
	}
}

func TestModesAndOwner(t *testing.T) {
	id := uint32(1234)
	c := openChain(t, 1, false)
	for _, tc := range []struct {
		o         Options
		dir, file uint32
	}{
		{Options{}, 0o555, 0o444},
		{Options{Umask: 0o077}, 0o500, 0o400},
		{Options{AllowRoot: true}, 0o500, 0o400},
		{Options{AllowRoot: true, AllowOther: true, Umask: 0o007}, 0o550, 0o440},
		{Options{UID: &id, GID: &id}, 0o555, 0o444},
	} {
		tc.o.Disks = []Source{{Chain: c, Name: "x"}}
		tr := newTree(&tc.o, false)
		if got := tr.nodes[0].mode & 0o777; got != tc.dir {
			t.Errorf("%+v: folder %o, want %o", tc.o, got, tc.dir)
		}
		if got := tr.nodes[2].mode & 0o777; got != tc.file {
			t.Errorf("%+v: file %o, want %o", tc.o, got, tc.file)
		}
		if tc.o.UID != nil && tr.owner != (owner{id, id}) {
			t.Errorf("owner %+v", tr.owner)
		}
	}
}

func TestFileAsRoot(t *testing.T) {
	r := newRaw(&bytes.Buffer{}, true, openChain(t, 2, false))
	var out fuse.AttrOut
	r.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: 1}}, &out)
	if out.Mode != syscall.S_IFREG|0o444 || out.Size != diskSize {
		t.Errorf("root: %+v", out.Attr)
	}
	if got, st := readAt(r, 1, dataStart, 512); !st.Ok() || !bytes.Equal(got, diskData(1)[:512]) {
		t.Errorf("read: %v", st)
	}
}

func TestRead(t *testing.T) {
	r := newRaw(&bytes.Buffer{}, false, openChain(t, 2, false))
	want := make([]byte, diskSize)
	copy(want[dataStart:], diskData(1))
	disk := lookup(t, r, "layer 1", "disk.raw").NodeId
	for _, c := range []struct{ off, n int64 }{
		{0, 4096}, {dataStart, dataLength}, {dataStart - 100, 200}, {dataStart + 1, spliceMin}, {0, diskSize},
		{diskSize - 512, 4096}, {diskSize - 1, 1}, {diskSize, 4096}, {diskSize + 1<<30, 4096},
	} {
		got, st := readAt(r, disk, c.off, int(c.n))
		lo := min(c.off, diskSize)
		if hi := min(c.off+c.n, diskSize); !st.Ok() || !bytes.Equal(got, want[lo:hi]) {
			t.Errorf("read %d at %d: %v, %d bytes, want %d", c.n, c.off, st, len(got), hi-lo)
		}
	}
	base := lookup(t, r, "layer 1", "snapshots", "0-layer 0.raw").NodeId
	if got, st := readAt(r, base, dataStart, dataLength); !st.Ok() || !bytes.Equal(got, diskData(0)) {
		t.Errorf("snapshot: %v", st)
	}
}

// The pipe must hold the bytes asked for, or not be offered.
func TestPipeReply(t *testing.T) {
	c := openChain(t, 1, false)
	f := newDiskFile(c, 0, newIOErrors(newRaw(&bytes.Buffer{}, false, c).errors.log, nil))
	r := newPipeReply(f, dataStart, spliceMin)
	if r == nil {
		t.Fatal("one piece of a file is not spliced")
	}
	got := make([]byte, spliceMin)
	if n, err := r.pair.Read(got); n != spliceMin || err != nil || !bytes.Equal(got, diskData(0)[:spliceMin]) {
		t.Errorf("pipe: %d bytes, %v", n, err)
	}
	r.Done()
	if newPipeReply(f, dataStart-512, spliceMin) != nil {
		t.Error("two pieces are spliced")
	}
	if err := os.Chmod(c.Layers()[0].Path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(c.Layers()[0].Path, fakeData+spliceMin/2); err != nil {
		t.Fatal(err)
	}
	if newPipeReply(f, dataStart, spliceMin) != nil {
		t.Error("a file that became shorter is spliced")
	}
	if _, err := f.read(make([]byte, spliceMin), dataStart); status(err) != fuse.EIO {
		t.Errorf("a file that became shorter reads as %v", err)
	}
}

func TestLostRange(t *testing.T) {
	var log bytes.Buffer
	r := newRaw(&log, false, openChain(t, 2, true))
	disk := lookup(t, r, "layer 1", "disk.raw").NodeId
	for range 3 {
		for off := int64(lostStart); off < lostStart+lostLength; off += 512 {
			if _, st := readAt(r, disk, off, 512); st != fuse.EIO {
				t.Fatalf("lost byte %d: %v", off, st)
			}
		}
	}
	if b, st := readAt(r, disk, lostStart-1024, 4096); !st.Ok() || len(b) != 1024 {
		t.Errorf("a range with a lost part: %d bytes, %v", len(b), st)
	}
	if _, st := readAt(r, disk, lostStart-512, 512); !st.Ok() {
		t.Errorf("before the lost range: %v", st)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "layer 1/disk.raw") {
		t.Errorf("%d lines logged: %s", n, log.String())
	}
}

func TestLseek(t *testing.T) {
	r := newRaw(&bytes.Buffer{}, false, openChain(t, 2, false))
	disk := lookup(t, r, "layer 1", "disk.raw").NodeId
	info := lookup(t, r, "layer 1", "info.json")
	for _, c := range []struct {
		node   uint64
		whence uint32
		off    uint64
		want   uint64
		status syscall.Errno
	}{
		{disk, unix.SEEK_DATA, 0, dataStart, 0},
		{disk, unix.SEEK_DATA, dataStart + 5, dataStart + 5, 0},
		{disk, unix.SEEK_DATA, dataStart + dataLength, 0, syscall.ENXIO},
		{disk, unix.SEEK_HOLE, 0, 0, 0},
		{disk, unix.SEEK_HOLE, dataStart, dataStart + dataLength, 0},
		{disk, unix.SEEK_HOLE, diskSize - 1, diskSize - 1, 0},
		{disk, unix.SEEK_HOLE, diskSize, 0, syscall.ENXIO},
		{disk, unix.SEEK_DATA, 1 << 63, 0, syscall.ENXIO},
		{disk, 99, 0, 0, syscall.EINVAL},
		{1, unix.SEEK_DATA, 0, 0, syscall.EINVAL},
		{info.NodeId, unix.SEEK_DATA, 3, 3, 0},
		{info.NodeId, unix.SEEK_HOLE, 3, info.Size, 0},
		{info.NodeId, unix.SEEK_HOLE, info.Size, 0, syscall.ENXIO},
	} {
		var out fuse.LseekOut
		in := &fuse.LseekIn{InHeader: fuse.InHeader{NodeId: c.node}, Offset: c.off, Whence: c.whence}
		if st := r.Lseek(nil, in, &out); st != fuse.Status(c.status) || st.Ok() && out.Offset != c.want {
			t.Errorf("node %d, whence %d, %d: %v, %d; want %v, %d", c.node, c.whence, c.off, st, out.Offset, c.status, c.want)
		}
	}
}

func TestInfo(t *testing.T) {
	c := openChain(t, 3, true)
	r := newRaw(&bytes.Buffer{}, false, c)
	e := lookup(t, r, "layer 2", "info.json")
	text, st := readAt(r, e.NodeId, 0, 1<<20)
	if !st.Ok() || uint64(len(text)) != e.Size {
		t.Fatalf("%v, %d bytes of %d", st, len(text), e.Size)
	}
	var info Info
	if err := json.Unmarshal(text, &info); err != nil {
		t.Fatal(err)
	}
	if info.Schema != 1 || info.Version != "test" || info.PID != os.Getpid() || info.Path.Taken != "requests" || info.Disk != "disk.raw" {
		t.Errorf("%+v", info)
	}
	if info.Image != c.Layers()[2].Path || info.Capacity != diskSize || len(info.Layers) != 3 || info.Layers[1].UUIDs.Parent == "" {
		t.Errorf("chain: %+v", info.Description)
	}
	if want := []string{"snapshots/0-layer 0.raw", "snapshots/1-layer 1.raw"}; !slices.Equal(info.Snapshots, want) {
		t.Errorf("snapshots %q, want %q", info.Snapshots, want)
	}
	if len(info.Unreadable) != 1 || info.Unreadable[0].Start != lostStart || info.Unreadable[0].Length != lostLength || info.Fill != "eio" {
		t.Errorf("unreadable: %+v, fill %q", info.Unreadable, info.Fill)
	}
	part, st := readAt(r, e.NodeId, 10, 20)
	if !st.Ok() || !bytes.Equal(part, text[10:30]) {
		t.Errorf("part of info.json: %v, %q", st, part)
	}
}

// ReadDir must give every name once, whatever fits into one reply.
func TestReadDir(t *testing.T) {
	r := newRaw(&bytes.Buffer{}, false, openChain(t, 9, false))
	dir := lookup(t, r, "layer 8", "snapshots").NodeId
	var off uint64
	var names []string
	for range 100 {
		buf := make([]byte, 128)
		out := fuse.NewDirEntryList(buf, off)
		in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dir}, Offset: off}
		if st := r.ReadDir(nil, in, out); !st.Ok() {
			t.Fatal(st)
		}
		if out.Offset == off {
			break
		}
		for i := off; i < out.Offset; i++ {
			names = append(names, r.node(dir).entry(i).Name)
		}
		off = out.Offset
	}
	if len(names) != 2+2*8 || names[0] != "." || names[1] != ".." || names[17] != "7-layer 7.raw" {
		t.Errorf("%q", names)
	}
}

func TestXattr(t *testing.T) {
	c := openChain(t, 1, false)
	r := newRaw(&bytes.Buffer{}, false, c)
	get := func(node uint64, name string, size int) (string, fuse.Status) {
		buf := make([]byte, size)
		n, st := r.GetXAttr(nil, &fuse.InHeader{NodeId: node}, name, buf)
		return string(buf[:min(int(n), size)]), st
	}
	if v, st := get(1, XattrPID, 64); v != fmt.Sprint(os.Getpid()) || !st.Ok() {
		t.Errorf("pid: %q, %v", v, st)
	}
	if v, st := get(1, XattrImages, 4096); v != fmt.Sprintf("[%q]", c.Layers()[0].Path) || !st.Ok() {
		t.Errorf("images: %q, %v", v, st)
	}
	if _, st := get(1, XattrPID, 0); st != fuse.ERANGE {
		t.Errorf("no room: %v", st)
	}
	if _, st := get(1, "security.capability", 64); st != fuse.ENODATA {
		t.Errorf("unknown name: %v", st)
	}
	if _, st := get(2, XattrPID, 64); st != fuse.ENODATA {
		t.Errorf("not the root: %v", st)
	}
}

func TestOpenForWriting(t *testing.T) {
	r := newRaw(&bytes.Buffer{}, false, openChain(t, 1, false))
	disk := lookup(t, r, "layer 0", "disk.raw").NodeId
	for flags, want := range map[uint32]fuse.Status{
		unix.O_RDONLY: fuse.OK, unix.O_WRONLY: fuse.EROFS, unix.O_RDWR: fuse.EROFS, unix.O_RDONLY | unix.O_TRUNC: fuse.EROFS,
	} {
		var out fuse.OpenOut
		if st := r.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: disk}, Flags: flags}, &out); st != want {
			t.Errorf("open %o: %v, want %v", flags, st, want)
		}
	}
	h := fuse.InHeader{NodeId: disk}
	if _, st := r.Write(nil, &fuse.WriteIn{InHeader: h}, make([]byte, 512)); st != fuse.EROFS {
		t.Errorf("write: %v", st)
	}
	if st := r.Fallocate(nil, &fuse.FallocateIn{InHeader: h, Length: 512}); st != fuse.EROFS {
		t.Errorf("fallocate: %v", st)
	}
	if st := r.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: h}}, nil); st != fuse.EROFS {
		t.Errorf("setattr: %v", st)
	}
	if st := r.Unlink(nil, &fuse.InHeader{}, "x"); st != fuse.EROFS {
		t.Errorf("unlink: %v", st)
	}
}
