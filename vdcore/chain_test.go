package vdcore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	_ "vdfs/formats/raw"
	_ "vdfs/formats/vdi"
	_ "vdfs/formats/vmdk"
	"vdfs/vdcore"
	"vdfs/vdcore/vdtest"
)

// family is a chain of random VDI images in memory with the content each layer
// must show.
type family struct {
	fs    *vdtest.Mem
	vdis  []*vdtest.VDI
	flats [][]byte
	paths []string
}

// newFamily makes n layers; sizes vary when ragged, so that parents are smaller
// and larger than their children.
func newFamily(r *rand.Rand, n int, ragged bool) *family {
	f := &family{fs: vdtest.NewMem()}
	var parent *vdtest.VDI
	var flat []byte
	for i := range n {
		capacity := int64(3 << 20)
		if ragged {
			capacity = 512 * (1 + r.Int64N(4<<11))
		}
		block := int64(128<<10) << r.IntN(4)
		parent, flat = vdtest.RandomVDI(r, parent, flat, capacity, block)
		f.add(fmt.Sprintf("/vm/layer%d.vdi", i), parent, flat)
	}
	return f
}

func (f *family) add(path string, v *vdtest.VDI, flat []byte) {
	f.fs.Put(path, v.Bytes())
	f.vdis, f.flats, f.paths = append(f.vdis, v), append(f.flats, flat), append(f.paths, path)
}

func (f *family) top() string { return f.paths[len(f.paths)-1] }

func openMem(t *testing.T, fs *vdtest.Mem, path string, o vdcore.Options) *vdcore.Chain {
	t.Helper()
	before := fs.OpenFiles()
	c, err := vdcore.OpenFS(fs, path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if n := fs.OpenFiles() - before; n != 0 {
			t.Errorf("%d files left open", n)
		}
	})
	return c
}

// TestModel compares every layer of random chains with a flat model, and the flat
// map with a walk of the layers in the contract's words.
func TestModel(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 7))
		f := newFamily(r, 1+r.IntN(6), seed%2 == 0)
		c := openMem(t, f.fs, f.top(), vdcore.Options{})
		for i, flat := range f.flats {
			d := c.Disk(i)
			if d.Capacity() != int64(len(flat)) {
				t.Fatalf("seed %d layer %d: %d bytes, want %d", seed, i, d.Capacity(), len(flat))
			}
			got, err := io.ReadAll(io.NewSectionReader(d, 0, d.Capacity()+10))
			if err != nil || !bytes.Equal(got, flat) {
				t.Fatalf("seed %d layer %d: content differs (%v)", seed, i, err)
			}
			randomReads(t, r, c, d, flat)
			checkSeek(t, d, flat)
		}
	}
}

func randomReads(t *testing.T, r *rand.Rand, c *vdcore.Chain, d *vdcore.Disk, flat []byte) {
	t.Helper()
	var stack vdtest.Stack
	for i := d.Layer().Index; i >= 0; i-- {
		stack = append(stack, c.Layers()[i].Image)
	}
	for range 20 {
		off := r.Int64N(int64(len(flat)))
		p := make([]byte, 1+r.IntN(400<<10))
		n, err := d.ReadAt(p, off)
		want := flat[off:min(off+int64(len(p)), int64(len(flat)))]
		if n != len(want) || (err == io.EOF) != (n < len(p)) || !bytes.Equal(p[:n], want) {
			t.Fatalf("read [%d,+%d): %d bytes, %v", off, len(p), n, err)
		}
		q := make([]byte, n)
		if err := stack.ReadAt(q, off); err != nil || !bytes.Equal(q, want) {
			t.Fatalf("walk of the layers differs at [%d,+%d): %v", off, n, err)
		}
	}
}

// checkSeek: whatever SEEK_DATA passes over is zero, and the two alternate to the
// end.
func checkSeek(t *testing.T, d *vdcore.Disk, flat []byte) {
	t.Helper()
	var data int64
	for at := int64(0); at < d.Capacity(); {
		start, err := d.SeekData(at)
		if err == io.EOF {
			start = d.Capacity()
		} else if err != nil {
			t.Fatal(err)
		}
		if len(bytes.Trim(flat[at:start], "\x00")) != 0 {
			t.Fatalf("[%d,%d) is said to be a hole", at, start)
		}
		if at = start; at == d.Capacity() {
			break
		}
		if at, err = d.SeekHole(start); err != nil {
			t.Fatal(err)
		}
		data += at - start
	}
	if got, err := d.Allocated(); err != nil || got != data {
		t.Fatalf("%d bytes allocated, %d found by seeking (%v)", got, data, err)
	}
	if _, err := d.SeekHole(d.Capacity()); err != io.EOF {
		t.Fatalf("seeking at the end: %v", err)
	}
}

// TestParallel reads one chain from many goroutines, for the race detector.
func TestParallel(t *testing.T) {
	f := newFamily(rand.New(rand.NewPCG(1, 1)), 5, true)
	c := openMem(t, f.fs, f.top(), vdcore.Options{})
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(k)))
			i := k % len(f.flats)
			for range 100 {
				off := r.Int64N(int64(len(f.flats[i])))
				p := make([]byte, 64<<10)
				n, _ := c.Disk(i).ReadAt(p, off)
				if !bytes.Equal(p[:n], f.flats[i][off:off+int64(n)]) {
					t.Error("wrong bytes")
				}
			}
		})
	}
	wg.Wait()
}

// wantError opens and expects an error that is kind and names every word.
func wantError(t *testing.T, fs *vdtest.Mem, path string, o vdcore.Options, kind error, words ...string) {
	t.Helper()
	before := fs.OpenFiles()
	c, err := vdcore.OpenFS(fs, path, o)
	if err == nil {
		c.Close()
		t.Fatal("opened")
	}
	if !errors.Is(err, kind) {
		t.Errorf("error is not %q: %v", kind, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not name %q: %v", w, err)
		}
	}
	if n := fs.OpenFiles() - before; n != 0 {
		t.Errorf("%d files left open", n)
	}
}

func wantContent(t *testing.T, c *vdcore.Chain, flat []byte) {
	t.Helper()
	got := make([]byte, c.Top().Capacity())
	if _, err := c.Top().ReadAt(got, 0); err != nil || !bytes.Equal(got, flat) {
		t.Errorf("content differs (%v)", err)
	}
}

func seeded() *rand.Rand { return rand.New(rand.NewPCG(42, 42)) }

func TestParentMissing(t *testing.T) {
	f := newFamily(seeded(), 2, false)
	fs := vdtest.NewMem()
	fs.Put("/vm/top.vdi", f.vdis[1].Bytes())
	wantError(t, fs, "/vm/top.vdi", vdcore.Options{}, vdcore.ErrMissing,
		"/vm/top.vdi", f.vdis[0].ID.String(), "/vm/Snapshots", "--search", "--allow-incomplete")

	c := openMem(t, fs, "/vm/top.vdi", vdcore.Options{AllowIncomplete: true})
	if !c.Incomplete() || len(c.Warnings()) == 0 {
		t.Error("nothing is said about the missing parent")
	}
	checkHoles(t, c, f.vdis[1], f.flats[1])

	z := openMem(t, fs, "/vm/top.vdi", vdcore.Options{AllowIncomplete: true, FillZero: true})
	want := bytes.Clone(f.flats[1])
	for i, e := range f.vdis[1].Map {
		if e == vdtest.VDIFree {
			clear(want[int64(i)*f.vdis[1].BlockSize:][:f.vdis[1].BlockSize])
		}
	}
	wantContent(t, z, want)
}

// checkHoles: blocks the child is free in fail with ErrLost, the others are right.
func checkHoles(t *testing.T, c *vdcore.Chain, v *vdtest.VDI, flat []byte) {
	t.Helper()
	for i, e := range v.Map {
		off := int64(i) * v.BlockSize
		p := make([]byte, 4096)
		_, err := c.Top().ReadAt(p, off)
		switch {
		case e == vdtest.VDIFree && !errors.Is(err, vdcore.ErrLost):
			t.Errorf("block %d of the missing parent reads without an error (%v)", i, err)
		case e != vdtest.VDIFree && (err != nil || !bytes.Equal(p, flat[off:off+4096])):
			t.Errorf("block %d of the child itself: %v", i, err)
		}
	}
}

func TestParentElsewhere(t *testing.T) {
	for name, place := range map[string]string{
		"above": "/base.vdi", "beside": "/vm/x.vdi", "snapshots": "/vm/Snapshots/y.vdi", "searched": "/other/z.vdi",
		"another name": "/vm/disk.bin",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFamily(seeded(), 2, false)
			fs := vdtest.NewMem("/other")
			fs.Put(place, f.vdis[0].Bytes())
			fs.Put("/vm/top.vdi", f.vdis[1].Bytes())
			fs.Put("/vm/notes.txt", []byte("not an image"))
			wantContent(t, openMem(t, fs, "/vm/top.vdi", vdcore.Options{}), f.flats[1])
		})
	}
}

func TestParentByRegistry(t *testing.T) {
	f := newFamily(seeded(), 2, false)
	fs := vdtest.NewMem()
	fs.Put("/vm/disks/base.vdi", f.vdis[0].Bytes())
	fs.Put("/vm/Snapshots/top.vdi", f.vdis[1].Bytes())
	reg := `<?xml version="1.0"?><VirtualBox><Machine><MediaRegistry><HardDisks>
	  <HardDisk uuid="{` + f.vdis[0].ID.String() + `}" location="disks/base.vdi" format="VDI" type="Normal"/>
	</HardDisks></MediaRegistry></Machine></VirtualBox>`
	fs.Put("/vm/vm.vbox", []byte(reg))
	wantContent(t, openMem(t, fs, "/vm/Snapshots/top.vdi", vdcore.Options{}), f.flats[1])

	fs.Put("/vm/vm.vbox", []byte(`<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>`+reg))
	wantError(t, fs, "/vm/Snapshots/top.vdi", vdcore.Options{}, vdcore.ErrMissing, "document type definition")
}

func TestParentModified(t *testing.T) {
	f := newFamily(seeded(), 2, false)
	changed := *f.vdis[0]
	changed.Mod = uuid.New()
	f.fs.Put(f.paths[0], changed.Bytes())
	c := openMem(t, f.fs, f.top(), vdcore.Options{})
	wantContent(t, c, f.flats[1])
	if v := c.Layers()[1].Link.Verdict; v != vdcore.LinkModified {
		t.Errorf("verdict %q", v)
	}
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, changed.Mod.String()) {
		t.Errorf("warning does not name the modification UUID: %q", w)
	}
}

func TestParentImpostor(t *testing.T) {
	f := newFamily(seeded(), 2, false)
	old := *f.vdis[0]
	old.Mod = uuid.New()
	old.Map = make([]uint32, len(old.Map))
	old.Slots = [][]byte{make([]byte, old.BlockSize)}
	f.fs.Put("/vm/aaa.vdi", old.Bytes())
	c := openMem(t, f.fs, f.top(), vdcore.Options{})
	wantContent(t, c, f.flats[1])
	if len(c.Warnings()) != 0 {
		t.Errorf("warned: %v", c.Warnings())
	}
}

func TestParentTwice(t *testing.T) {
	f := newFamily(seeded(), 2, false)
	f.fs.Put("/vm/copy.vdi", f.vdis[0].Bytes())
	c := openMem(t, f.fs, f.top(), vdcore.Options{})
	wantContent(t, c, f.flats[1])
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, "copy.vdi") || !strings.Contains(w, "layer0.vdi") {
		t.Errorf("warning does not name both copies: %q", w)
	}

	g := newFamily(seeded(), 2, false)
	g.fs.Link(g.paths[0], "/vm/samefile.vdi")
	if c := openMem(t, g.fs, g.top(), vdcore.Options{}); len(c.Warnings()) != 0 {
		t.Errorf("two names of one file: %v", c.Warnings())
	}
}

func TestParentOtherUUID(t *testing.T) {
	f := newFamily(seeded(), 2, false)
	other, _ := vdtest.RandomVDI(rand.New(rand.NewPCG(9, 9)), nil, nil, 3<<20, 1<<20)
	fs := vdtest.NewMem()
	fs.Put("/vm/base.vdi", other.Bytes())
	fs.Put("/vm/top.vdi", f.vdis[1].Bytes())
	wantError(t, fs, "/vm/top.vdi", vdcore.Options{}, vdcore.ErrMissing, "/vm/base.vdi", other.ID.String(), f.vdis[0].ID.String())
	named := vdcore.Options{Parents: []string{"/vm/base.vdi"}}
	wantError(t, fs, "/vm/top.vdi", named, vdcore.ErrMissing, other.ID.String())
	named.AllowModifiedParent = true
	if c := openMem(t, fs, "/vm/top.vdi", named); c.Layers()[1].Link.Verdict != vdcore.LinkForced || len(c.Warnings()) == 0 {
		t.Error("a forced parent opens without a word")
	}
}

// TestExplicitParent: a --parent file that fits another layer is not forced in
// between, however much is allowed.
func TestExplicitParent(t *testing.T) {
	f := newFamily(seeded(), 3, false)
	fs := vdtest.NewMem("/z")
	fs.Put("/z/base.vdi", f.vdis[0].Bytes())
	fs.Put("/vm/mid.vdi", f.vdis[1].Bytes())
	fs.Put("/vm/top.vdi", f.vdis[2].Bytes())
	c := openMem(t, fs, "/vm/top.vdi", vdcore.Options{Parents: []string{"/z/base.vdi"}, AllowModifiedParent: true})
	wantContent(t, c, f.flats[2])
}

// TestNullLink: a differencing image that names no parent is not a base.
func TestNullLink(t *testing.T) {
	f := newFamily(seeded(), 2, false)
	b := f.vdis[1].Bytes()
	clear(b[424:440])
	fs := vdtest.NewMem()
	fs.Put("/vm/top.vdi", b)
	wantError(t, fs, "/vm/top.vdi", vdcore.Options{}, vdcore.ErrMissing, "does not say of what")
	checkHoles(t, openMem(t, fs, "/vm/top.vdi", vdcore.Options{AllowIncomplete: true}), f.vdis[1], f.flats[1])
}

// vmdk is a descriptor without data: CIDs and the stored name are what matters.
func vmdk(cid, parent, hint string) []byte {
	return []byte("# Disk DescriptorFile\nversion=1\nCID=" + cid + "\nparentCID=" + parent +
		"\ncreateType=\"custom\"\nparentFileNameHint=\"" + hint + "\"\nRW 16 ZERO\n")
}

func TestCIDParents(t *testing.T) {
	const none = "ffffffff"
	base, child := vmdk("aabbccdd", none, ""), vmdk("aabbccdd", "aabbccdd", "base.vmdk")
	for name, c := range map[string]struct {
		files map[string][]byte
		err   error
		word  string // of the error, or the parent's path
	}{
		"by its name":         {map[string][]byte{"base.vmdk": base}, nil, "/vm/base.vmdk"},
		"renamed":             {map[string][]byte{"other.vmdk": base}, nil, "/vm/other.vmdk"},
		"missing":             {nil, vdcore.ErrMissing, "base.vmdk"},
		"renamed, two of it":  {map[string][]byte{"x.vmdk": base, "y.vmdk": base}, vdcore.ErrMismatch, "choose"},
		"own child only":      {map[string][]byte{"a.vmdk": vmdk("aabbccdd", "aabbccdd", "child.vmdk")}, vdcore.ErrMissing, "base.vmdk"},
		"changed":             {map[string][]byte{"base.vmdk": vmdk("11111111", none, "")}, vdcore.ErrMismatch, "--allow-modified-parent"},
		"not an image at all": {map[string][]byte{"base.vmdk": []byte("secret")}, vdcore.ErrMissing, "base.vmdk"},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vdtest.NewMem()
			fs.Put("/vm/child.vmdk", child)
			for n, b := range c.files {
				fs.Put("/vm/"+n, b)
			}
			if c.err != nil {
				wantError(t, fs, "/vm/child.vmdk", vdcore.Options{}, c.err, c.word)
				openMem(t, fs, "/vm/child.vmdk", vdcore.Options{AllowIncomplete: true})
				return
			}
			if got := openMem(t, fs, "/vm/child.vmdk", vdcore.Options{}).Layers()[0].Path; got != c.word {
				t.Errorf("parent %s", got)
			}
		})
	}
}

// TestForcedNeedsIdentity: a name inside an image never makes a plain file a
// parent; the user can, by naming it.
func TestForcedNeedsIdentity(t *testing.T) {
	fs := vdtest.NewMem()
	fs.Put("/vm/child.vmdk", vmdk("1", "11111111", "../secret"))
	fs.Put("/secret", []byte("the key"))
	forced := vdcore.Options{AllowModifiedParent: true}
	wantError(t, fs, "/vm/child.vmdk", forced, vdcore.ErrMissing)
	forced.Parents = []string{"/secret"}
	if c := openMem(t, fs, "/vm/child.vmdk", forced); c.Layers()[1].Link.Verdict != vdcore.LinkForced {
		t.Error("the user's own word is not taken")
	}
}

func TestCycles(t *testing.T) {
	r := seeded()
	a, _ := vdtest.RandomVDI(r, nil, nil, 1<<20, 1<<20)
	b, _ := vdtest.RandomVDI(r, a, nil, 1<<20, 1<<20)
	self := *a
	self.Parent = self.ID
	fs := vdtest.NewMem()
	fs.Put("/vm/self.vdi", self.Bytes())
	wantError(t, fs, "/vm/self.vdi", vdcore.Options{}, vdcore.ErrCycle, "/vm/self.vdi")

	a.Parent = b.ID
	fs = vdtest.NewMem()
	fs.Put("/vm/a.vdi", a.Bytes())
	fs.Put("/vm/b.vdi", b.Bytes())
	wantError(t, fs, "/vm/a.vdi", vdcore.Options{}, vdcore.ErrCycle, "cyclic", "/vm/a.vdi")
	fs.Link("/vm/a.vdi", "/vm/hardlink.vdi")
	wantError(t, fs, "/vm/hardlink.vdi", vdcore.Options{}, vdcore.ErrCycle, "cyclic")
}

func TestTree(t *testing.T) {
	r := seeded()
	base, flat := vdtest.RandomVDI(r, nil, nil, 1<<20, 1<<20)
	left, lflat := vdtest.RandomVDI(r, base, flat, 1<<20, 1<<20)
	right, _ := vdtest.RandomVDI(r, base, flat, 1<<20, 1<<20)
	leaf, _ := vdtest.RandomVDI(r, left, lflat, 1<<20, 1<<20)
	fs := vdtest.NewMem()
	for name, v := range map[string]*vdtest.VDI{"base": base, "left": left, "right": right, "Snapshots/leaf": leaf} {
		fs.Put("/vm/"+name+".vdi", v.Bytes())
	}
	tree := openMem(t, fs, "/vm/base.vdi", vdcore.Options{}).Tree()
	if got, want := sketch(tree), "base*(left(leaf) right)"; got != want {
		t.Errorf("tree %s, want %s", got, want)
	}
	tree = openMem(t, fs, "/vm/left.vdi", vdcore.Options{}).Tree()
	if got, want := sketch(tree), "base*(left*(leaf) right)"; got != want {
		t.Errorf("tree %s, want %s", got, want)
	}
}

func sketch(t *vdcore.Tree) string {
	s := strings.TrimSuffix(t.Path[strings.LastIndex(t.Path, "/")+1:], ".vdi")
	if t.InChain {
		s += "*"
	}
	var kids []string
	for _, c := range t.Children {
		kids = append(kids, sketch(c))
	}
	if len(kids) > 0 {
		s += "(" + strings.Join(kids, " ") + ")"
	}
	return s
}

// TestDeep opens a long chain and reads through all of it.
func TestDeep(t *testing.T) {
	r := seeded()
	fs := vdtest.NewMem()
	var v *vdtest.VDI
	flat := []byte{}
	for i := range 500 {
		v, flat = vdtest.RandomVDI(r, v, flat, 512<<10, 128<<10)
		fs.Put(fmt.Sprintf("/vm/%d.vdi", i), v.Bytes())
	}
	c := openMem(t, fs, "/vm/499.vdi", vdcore.Options{})
	if len(c.Layers()) != 500 {
		t.Fatalf("%d layers", len(c.Layers()))
	}
	wantContent(t, c, flat)
}
