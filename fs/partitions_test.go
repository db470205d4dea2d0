package fs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vdfs/vdcore"
)

// The first partition lies in the data, the second reaches from there over a hole, and
// on over the end of the disk.
const (
	part1Start, part1Size = 4096, 8192
	part2Start            = 12288
	mbrData               = 16384
)

// openPartitioned makes a chain of n layers, each with a table and data of its own.
func openPartitioned(t *testing.T, n int) *vdcore.Chain {
	t.Helper()
	dir := t.TempDir()
	var parent uuid.UUID
	var path string
	for i := range n {
		h := fakeHeader{UUID: uuid.New(), Parent: parent, Capacity: diskSize, Extents: []vdcore.Extent{
			{Off: 0, Len: mbrData, Kind: vdcore.Data, Pos: fakeData},
		}}
		path = filepath.Join(dir, fmt.Sprintf("layer %d.fake", i))
		writeFake(t, path, h, partitioned(byte(i)))
		parent = h.UUID
	}
	c, err := vdcore.Open(path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func partitioned(layer byte) []byte {
	p := make([]byte, mbrData)
	for i := 512; i < len(p); i++ {
		p[i] = byte(i/512) ^ layer<<6
	}
	for i, e := range [][2]uint32{{part1Start / 512, part1Size / 512}, {part2Start / 512, 1 << 20}} {
		q := p[446+16*i:]
		q[4] = 0x83
		binary.LittleEndian.PutUint32(q[8:], e[0])
		binary.LittleEndian.PutUint32(q[12:], e[1])
	}
	p[510], p[511] = 0x55, 0xAA
	return p
}

// names of a folder, read in several requests.
func listDir(t *testing.T, r *rawFS, node uint64) (names []string) {
	t.Helper()
	for _, n := range r.node(node).listing() {
		names = append(names, n.name)
	}
	return names
}

func TestPartitionFiles(t *testing.T) {
	r := newRaw(&bytes.Buffer{}, false, openPartitioned(t, 2))
	for _, n := range r.nodes {
		if n.partitions != nil && n.partitions.files != nil {
			t.Errorf("the table of %s was read before anybody looked", n.path)
		}
	}
	dir := lookup(t, r, "layer 1")
	want := []string{"disk.raw", "snapshots", "info.json", "p1.raw", "p2.raw"}
	if got := listDir(t, r, dir.NodeId); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	seen := map[uint64]bool{}
	for _, path := range [][]string{
		{"layer 1", "disk.raw"}, {"layer 1", "p1.raw"}, {"layer 1", "p2.raw"},
		{"layer 1", "snapshots", "0-layer 0.raw"}, {"layer 1", "snapshots", "0-layer 0", "p1.raw"}, {"layer 1", "snapshots", "0-layer 0", "p2.raw"},
	} {
		e := lookup(t, r, path...)
		if seen[e.NodeId] || seen[e.Ino] || e.Mode != unix.S_IFREG|0o444 || e.Nlink != 1 || e.AttrTimeout() != cacheTime {
			t.Errorf("%q: %+v", path, e)
		}
		seen[e.NodeId], seen[e.Ino] = true, true
	}
	for _, path := range []string{"p3.raw", "p0.raw", "p01.raw", "p.raw", "q1.raw", "x.p1.raw", "p1.raw.raw", ".p1.raw"} {
		var out fuse.EntryOut
		if st := r.Lookup(nil, &fuse.InHeader{NodeId: dir.NodeId}, path, &out); !st.Ok() || out.NodeId != 0 {
			t.Errorf("%s: %v, node %d", path, st, out.NodeId)
		}
	}
	again := newRaw(&bytes.Buffer{}, false, openPartitioned(t, 2))
	if a, b := lookup(t, r, "layer 1", "p2.raw").Ino, lookup(t, again, "layer 1", "p2.raw").Ino; a != b {
		t.Errorf("inode %d in one mount, %d in the next", a, b)
	}
}

func TestPartitionContent(t *testing.T) {
	r := newRaw(&bytes.Buffer{}, false, openPartitioned(t, 2))
	for i, path := range [][]string{{"layer 1", "snapshots", "0-layer 0", "%s"}, {"layer 1", "%s"}} {
		disk := append(partitioned(byte(i)), make([]byte, diskSize-mbrData)...)
		for name, want := range map[string][]byte{
			"p1.raw": disk[part1Start : part1Start+part1Size],
			"p2.raw": disk[part2Start:],
		} {
			p := slices.Clone(path)
			p[len(p)-1] = fmt.Sprintf(p[len(p)-1], name)
			e := lookup(t, r, p...)
			stored := min(len(want), mbrData-part2Start)
			if name == "p1.raw" {
				stored = part1Size
			}
			if e.Size != uint64(len(want)) || e.Blocks != uint64(stored/512) {
				t.Errorf("%q: %d bytes, %d blocks", p, e.Size, e.Blocks)
			}
			for _, id := range []uint64{e.NodeId, r.twin(r.node(e.NodeId))} {
				if got, st := readAt(r, id, 0, len(want)+100); !st.Ok() || !bytes.Equal(got, want) {
					t.Errorf("%q: %v, %d bytes, or others", p, st, len(got))
				}
			}
			if got, st := readAt(r, e.NodeId, int64(len(want))-10, 100); !st.Ok() || !bytes.Equal(got, want[len(want)-10:]) {
				t.Errorf("%q: the end: %v, %x", p, st, got)
			}
			if got, st := readAt(r, e.NodeId, int64(len(want)), 10); !st.Ok() || len(got) != 0 {
				t.Errorf("%q: behind the end: %v, %x", p, st, got)
			}
		}
	}
	e := lookup(t, r, "layer 1", "p2.raw")
	for _, c := range []struct {
		off, whence uint64
		want        int64 // -1: ENXIO
	}{
		{0, unix.SEEK_DATA, 0}, {0, unix.SEEK_HOLE, mbrData - part2Start}, {5000, unix.SEEK_HOLE, 5000},
		{5000, unix.SEEK_DATA, -1}, {e.Size - 1, unix.SEEK_HOLE, int64(e.Size) - 1}, {e.Size, unix.SEEK_HOLE, -1},
	} {
		var out fuse.LseekOut
		st := r.Lseek(nil, &fuse.LseekIn{InHeader: fuse.InHeader{NodeId: e.NodeId}, Offset: c.off, Whence: uint32(c.whence)}, &out)
		if c.want < 0 && st != fuse.Status(unix.ENXIO) || c.want >= 0 && (!st.Ok() || int64(out.Offset) != c.want) {
			t.Errorf("seek %+v: %v, %d", c, st, out.Offset)
		}
	}
}

// TestPartitionsAtOnce: many look at the same time, and all see the same.
func TestPartitionsAtOnce(t *testing.T) {
	r := newRaw(&bytes.Buffer{}, false, openPartitioned(t, 3))
	dir := lookup(t, r, "layer 2", "snapshots", "1-layer 1")
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			if i%2 == 0 {
				r.node(dir.NodeId).listing()
			}
			e := fuse.EntryOut{}
			r.Lookup(nil, &fuse.InHeader{NodeId: dir.NodeId}, "p1.raw", &e)
			if got, st := readAt(r, e.NodeId, 0, 100); !st.Ok() || got[0] != byte(part1Start/512)^1<<6 {
				t.Errorf("%v %x", st, got)
			}
		})
	}
	wait.Wait()
	if err := r.closeRoutes(); err != nil {
		t.Error(err)
	}
}

// TestTornPartition: of a partition with a lost range, what is good can be read up to
// the byte, and what is lost is EIO.
func TestTornPartition(t *testing.T) {
	const lostAt = 8192 // in the first partition
	path := filepath.Join(t.TempDir(), "torn.fake")
	writeFake(t, path, fakeHeader{UUID: uuid.New(), Capacity: diskSize, Extents: []vdcore.Extent{
		{Off: 0, Len: lostAt, Kind: vdcore.Data, Pos: fakeData},
		{Off: lostAt, Len: 1024, Kind: vdcore.Lost},
	}}, partitioned(0))
	c, err := vdcore.Open(path, vdcore.Options{AllowIncomplete: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := newRaw(&bytes.Buffer{}, false, c)
	e := lookup(t, r, "torn", "p1.raw")
	good := int64(lostAt - part1Start)
	if got, st := readAt(r, e.NodeId, good-700, 4096); !st.Ok() || len(got) != 700 {
		t.Errorf("%d bytes, %v", len(got), st)
	}
	if _, st := readAt(r, e.NodeId, good, 512); st != fuse.EIO {
		t.Errorf("what is lost: %v", st)
	}
	if got, st := readAt(r, e.NodeId, good+1024, 512); !st.Ok() || len(got) != 512 {
		t.Errorf("behind it: %d bytes, %v", len(got), st)
	}
}
