package fs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/rs/zerolog"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// fakeHeader begins a fake image: JSON, filled up to fakeData bytes. Real formats
// are out of reach for this package, and a fake says exactly what it maps.
type fakeHeader struct {
	Magic        string
	UUID, Parent uuid.UUID
	Capacity     int64
	Extents      []vdcore.Extent // what is not listed is free
}

const (
	fakeMagic = "fake image"
	fakeData  = 4096
)

type fakeImage struct {
	fakeHeader
	file storage.File
	info vdcore.Info
}

func init() {
	vdcore.Register(vdcore.Backend{
		Name: "fake",
		Probe: func(s vdcore.Sample) vdcore.Score {
			if bytes.Contains(s.Head, []byte(fakeMagic)) {
				return vdcore.Magic
			}
			return vdcore.No
		},
		Open: openFake,
	})
}

func openFake(a vdcore.OpenArgs) (vdcore.Image, error) {
	head := make([]byte, fakeData)
	if err := storage.ReadFull(a.File, head, 0); err != nil {
		return nil, err
	}
	f := &fakeImage{file: a.File}
	if err := json.Unmarshal(bytes.TrimRight(head, "\x00"), &f.fakeHeader); err != nil {
		return nil, err
	}
	f.info = vdcore.Info{Format: "fake", Capacity: f.Capacity, BlockSize: 4096}
	f.info.UUID = f.UUID
	if f.Parent != uuid.Nil {
		f.info.Parent = &vdcore.ParentRef{UUID: f.Parent}
	}
	for _, e := range f.Extents {
		if e.Kind == vdcore.Lost {
			f.info.AddDamage(e.Off, e.Len, fmt.Errorf("a hole in the fake: %w", vdcore.ErrCorrupt))
		}
	}
	if a.Write {
		return newFakeWriter(f)
	}
	return f, nil
}

func (f *fakeImage) Info() *vdcore.Info    { return &f.info }
func (f *fakeImage) Files() []storage.File { return []storage.File{f.file} }
func (f *fakeImage) Close() error          { return f.file.Close() }

func (f *fakeImage) Map(dst []vdcore.Extent, off, n int64) ([]vdcore.Extent, error) {
	end := off + n
	for _, e := range f.Extents {
		if e.End() <= off || e.Off >= end {
			continue
		}
		e = e.Clip(off, end)
		dst = vdcore.Append(dst, vdcore.Extent{Off: off, Len: e.Off - off})
		dst = vdcore.Append(dst, e)
		off = e.End()
	}
	return vdcore.Append(dst, vdcore.Extent{Off: off, Len: end - off}), nil
}

// writeFake makes an image; its data begins at fakeData.
func writeFake(t *testing.T, path string, h fakeHeader, data []byte) {
	t.Helper()
	h.Magic = fakeMagic
	head, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	file := append(head, make([]byte, fakeData-len(head))...)
	if err := os.WriteFile(path, append(file, data...), 0o444); err != nil {
		t.Fatal(err)
	}
}

const (
	diskSize   = 1<<20 + 512 // no multiple of anything
	dataStart  = 256 << 10   // a hole lies before
	dataLength = 128 << 10
	lostStart  = 512 << 10
	lostLength = 4096
)

// diskData is what lies at dataStart, as layer n has it.
func diskData(n byte) []byte {
	p := make([]byte, dataLength)
	for i := range p {
		p[i] = byte(i/512) ^ n<<6
	}
	return p
}

// openChain makes a chain of n layers in a folder of its own. Every layer holds
// the data range; the base holds the lost range too, if wanted.
func openChain(t *testing.T, n int, lost bool) *vdcore.Chain {
	t.Helper()
	dir := t.TempDir()
	var parent uuid.UUID
	var path string
	for i := range n {
		h := fakeHeader{UUID: uuid.New(), Parent: parent, Capacity: diskSize, Extents: []vdcore.Extent{
			{Off: dataStart, Len: dataLength, Kind: vdcore.Data, Pos: fakeData},
		}}
		if lost && i == 0 {
			h.Extents = append(h.Extents, vdcore.Extent{Off: lostStart, Len: lostLength, Kind: vdcore.Lost})
		}
		path = filepath.Join(dir, fmt.Sprintf("layer %d.fake", i))
		writeFake(t, path, h, diskData(byte(i)))
		parent = h.UUID
	}
	c, err := vdcore.Open(path, vdcore.Options{AllowIncomplete: lost})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// newRaw is a file system over chains, logging to log.
func newRaw(log *bytes.Buffer, asFile bool, chains ...*vdcore.Chain) *rawFS {
	o := &Options{Log: zerolog.New(log), Version: "test", KernelReads: KernelOff}
	for _, c := range chains {
		o.Disks = append(o.Disks, Source{Chain: c})
	}
	return &rawFS{readOnly: newReadOnly(), tree: newTree(o, asFile)}
}

// lookup walks a path as the kernel does.
func lookup(t *testing.T, r *rawFS, path ...string) fuse.EntryOut {
	t.Helper()
	out := fuse.EntryOut{NodeId: fuse.FUSE_ROOT_ID}
	for _, name := range path {
		h := &fuse.InHeader{NodeId: out.NodeId}
		out = fuse.EntryOut{}
		if st := r.Lookup(nil, h, name, &out); !st.Ok() || out.NodeId == 0 {
			t.Fatalf("lookup %q: %v, node %d", name, st, out.NodeId)
		}
	}
	return out
}

// readAt is one READ request.
func readAt(r *rawFS, node uint64, off int64, n int) ([]byte, fuse.Status) {
	buf := make([]byte, n)
	in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: node}, Offset: uint64(off), Size: uint32(n)}
	reply, st := r.Read(nil, in, buf)
	if !st.Ok() {
		return nil, st
	}
	defer reply.Done()
	p, st := reply.Bytes(buf)
	return bytes.Clone(p), st
}
