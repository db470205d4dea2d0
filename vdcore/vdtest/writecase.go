package vdtest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
)

// WriteCase is a writable image with its parents, for [Model], [Crash], [Faults]
// and [Barriers].
type WriteCase struct {
	Name  string
	Files map[string][]byte // the image's files and its parents', by absolute path
	Open  string            // the topmost image
	Parts []string          // files of the topmost image besides Open
	Flat  []byte            // the content at the start
	// BlockSize is what the image allocates at once; it shapes the workload.
	BlockSize int64
	// Torn: guest sectors do not lie at sectors of their file, so that a power cut
	// tears them.
	Torn bool
	// IsTable says which sectors hold entries that lead to data; nil lets [Barriers]
	// find out.
	IsTable func(path string, sector int64) bool
	// Check looks into a closed image for what no read shows (leaks, counts); nil
	// looks at nothing. crashed: the power went while it was written.
	Check func(t testing.TB, fsys storage.FS, path string, crashed bool)
	// With opens the image; nil is a chain's topmost disk.
	With func(fsys storage.FS, path string, write bool) (Target, error)
}

// Target is an open disk.
type Target interface {
	io.ReaderAt
	io.WriterAt
	Discard(off, n int64) error
	Allocate(off, n int64) error
	Sync() error
	SeekData(off int64) (int64, error)
	SeekHole(off int64) (int64, error)
	Capacity() int64
	Close() error
}

// topDisk is a chain's topmost disk.
type topDisk struct {
	*vdcore.Disk
	chain *vdcore.Chain
}

func (d topDisk) Close() error { return d.chain.Close() }

// open opens the case from a file system made from its files.
func (c *WriteCase) open(fsys storage.FS, write bool) (Target, error) {
	if c.With != nil {
		return c.With(fsys, c.Open, write)
	}
	chain, err := vdcore.OpenFS(fsys, c.Open, vdcore.Options{Write: write})
	if err != nil {
		return nil, err
	}
	return topDisk{chain.Top(), chain}, nil
}

// fs makes a file system of the case's files.
func (c *WriteCase) fs() *crashfs.FS {
	f := crashfs.New()
	for _, path := range slices.Sorted(maps.Keys(c.Files)) {
		f.Put(path, c.Files[path])
	}
	return f
}

// isParent reports whether a file must stay as it is.
func (c *WriteCase) isParent(path string) bool {
	_, known := c.Files[path]
	return known && path != c.Open && !slices.Contains(c.Parts, path)
}

// unchanged checks that nothing was done to the parents. A crashfs refuses writes
// through a file opened read-only, so its log tells all.
func (c *WriteCase) unchanged(f *crashfs.FS) error {
	for _, op := range f.Log() {
		if c.isParent(op.Path) {
			return fmt.Errorf("a parent was written to: %v", op)
		}
	}
	return nil
}

// untouched compares the parents byte for byte and looks for files that should
// not be there.
func (c *WriteCase) untouched(f *crashfs.FS) error {
	for path, want := range c.Files {
		if c.isParent(path) && !bytes.Equal(f.Bytes(path), want) {
			return fmt.Errorf("the parent %s changed", path)
		}
	}
	for _, path := range f.Paths() {
		if _, known := c.Files[path]; !known {
			return fmt.Errorf("%s was left behind", path)
		}
	}
	return nil
}

// VDICase makes a chain of VDI images of depth layers with random content. Blocks
// are of 128 KiB, the smallest there are; the capacity is no multiple of them.
func VDICase(seed uint64, depth int) WriteCase {
	const block, capacity = 128 << 10, 9*128<<10 + 37<<10
	r := rand.New(rand.NewPCG(seed, uint64(depth)))
	c := WriteCase{Name: fmt.Sprintf("vdi depth %d seed %d", depth, seed), Files: map[string][]byte{}, BlockSize: block}
	var top *VDI
	for i := range depth {
		top, c.Flat = RandomVDI(r, top, c.Flat, capacity, block)
		c.Open = fmt.Sprintf("/vm/%d.vdi", i)
		c.Files[c.Open] = top.Bytes()
	}
	first, end := int64(vdiMapAt/512), top.dataAt()/512
	c.IsTable = func(path string, sector int64) bool { return path == c.Open && sector >= first && sector < end }
	return c
}

// CreatedCase makes a chain of depth images with the backend's Create, and fills
// all but the topmost through the write path itself, the topmost one in part.
func CreatedCase(t testing.TB, backend, extension string, seed uint64, depth int, capacity, block int64) WriteCase {
	t.Helper()
	b, err := vdcore.Lookup(backend)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, uint64(depth)))
	c := WriteCase{
		Name:  fmt.Sprintf("%s created depth %d seed %d", backend, depth, seed),
		Files: map[string][]byte{}, Flat: make([]byte, capacity), BlockSize: block,
	}
	f := crashfs.New()
	for i := range depth {
		args := vdcore.CreateArgs{FS: f, Path: fmt.Sprintf("/vm/%d%s", i, extension), Capacity: capacity, UUID: RandomUUID(r)}
		if i > 0 {
			args.Parent = &vdcore.CreateParent{Info: infoOf(t, f, c.Open), Hint: fmt.Sprintf("%d%s", i-1, extension)}
		}
		if err := b.Create(t.Context(), args); err != nil {
			t.Fatal(err)
		}
		c.Open = args.Path
		c.fill(t, f, r)
	}
	for _, path := range f.Paths() {
		c.Files[path] = f.Bytes(path)
	}
	return c
}

// infoOf is what an image says of itself.
func infoOf(t testing.TB, fsys storage.FS, path string) *vdcore.Info {
	t.Helper()
	chain, err := vdcore.OpenFS(fsys, path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	return chain.Top().Layer().Info()
}

// fill writes random pieces to the topmost image and to Flat.
func (c *WriteCase) fill(t testing.TB, fsys storage.FS, r *rand.Rand) {
	t.Helper()
	d, err := c.open(fsys, true)
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		off := r.Int64N(int64(len(c.Flat)))
		p := c.Flat[off:min(int64(len(c.Flat)), off+1+r.Int64N(3*c.BlockSize))]
		randomBytes(r, p)
		if _, err := d.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// GoldenWriteCase makes a case of a golden chain made by other tools, by the name
// of its archive without ".tar.gz", seen from the given layer (0 is the topmost).
func GoldenWriteCase(t testing.TB, archive string, layer int, block int64) WriteCase {
	t.Helper()
	all := Cases(t)
	i := slices.IndexFunc(all, func(g Case) bool { return g.Archive == archive+".tar.gz" })
	if i < 0 {
		t.Fatalf("no golden archive %q", archive)
	}
	top := all[i].Layers[layer]
	c := WriteCase{Name: all[i].Name(), Files: map[string][]byte{}, Open: "/" + top.File, BlockSize: block}
	err := untar(all[i].Archive, func(name string, _ int64, r io.Reader) error {
		b, err := io.ReadAll(r)
		c.Files["/"+name] = b
		if (Golden{Open: c.Open}).part("/" + name) {
			c.Parts = append(c.Parts, "/"+name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.open(c.fs(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c.Flat = make([]byte, d.Capacity())
	if err := storage.ReadFull(d, c.Flat, 0); err != nil {
		t.Fatal(err)
	}
	if top, ok := d.(topDisk); ok {
		c.Torn = tears(t, top.Layer().Image)
	}
	if got := hexSum(c.Flat); got != top.SHA256 {
		t.Fatalf("%s: content %s, want %s", c.Name, got, top.SHA256)
	}
	return c
}

// tears reports whether an image keeps sectors across those of its file.
func tears(t testing.TB, img vdcore.Image) bool {
	t.Helper()
	extents, err := img.Map(nil, 0, img.Info().Capacity)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(extents, func(e vdcore.Extent) bool {
		return e.Kind == vdcore.Data && (e.Pos-e.Off)%sectorSize != 0
	})
}
