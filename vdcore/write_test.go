package vdcore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// random fills n bytes.
func random(r *rand.Rand, n int64) []byte {
	p := make([]byte, n)
	var word [8]byte
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(word[:], r.Uint64())
		copy(p[i:], word[:])
	}
	return p
}

// contentOf opens a chain for reading and returns all of it.
func contentOf(t *testing.T, fs storage.FS, path string) []byte {
	t.Helper()
	c, err := vdcore.OpenFS(fs, path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := make([]byte, c.Top().Capacity())
	if _, err := c.Top().ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWriteModel: random writes, discards and syncs over random chains, of parents
// smaller and larger than their child too, against a flat model; parents stay as
// they were.
func TestWriteModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 21))
			f := newFamily(r, 1+r.IntN(5), seed%2 == 0)
			flat := bytes.Clone(f.flats[len(f.flats)-1])
			var parents [][]byte
			for _, p := range f.paths[:len(f.paths)-1] {
				parents = append(parents, bytes.Clone(f.fs.Bytes(p)))
			}
			for range 3 {
				writeSome(t, r, f, flat)
				if !bytes.Equal(contentOf(t, f.fs, f.top()), flat) {
					t.Fatal("the image opened again shows something else")
				}
			}
			for i, want := range parents {
				if !bytes.Equal(f.fs.Bytes(f.paths[i]), want) {
					t.Errorf("%s was changed", f.paths[i])
				}
			}
		})
	}
}

func writeSome(t *testing.T, r *rand.Rand, f *family, flat []byte) {
	t.Helper()
	c, err := vdcore.OpenFS(f.fs, f.top(), vdcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	d := c.Top()
	for step := range 100 {
		off := r.Int64N(d.Capacity())
		n := min(1+r.Int64N(int64(1)<<(r.IntN(21)+1)), d.Capacity()-off)
		switch r.IntN(8) {
		case 0:
			err = d.Discard(off, n)
			clear(flat[off : off+n])
		case 1:
			off -= off % (1 << 20) // whole units
			n = min(1<<20, d.Capacity()-off)
			err = d.Discard(off, n)
			clear(flat[off : off+n])
		case 2:
			err = d.Sync()
		case 3:
			_, err = d.WriteAt(make([]byte, n), off)
			clear(flat[off : off+n])
		default:
			p := random(r, n)
			copy(flat[off:], p)
			_, err = d.WriteAt(p, off)
		}
		if err != nil {
			t.Fatal(err)
		}
		from, to := off, off+n
		if step%16 == 0 {
			from, to = 0, d.Capacity()
		}
		got := make([]byte, to-from)
		if _, err := d.ReadAt(got, from); err != nil || !bytes.Equal(got, flat[from:to]) {
			t.Fatalf("reads something else than was written, %v", err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestWriteParallel: writers of disjoint ranges that share units, with syncs,
// discards and readers between them.
func TestWriteParallel(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 22))
	f := newFamily(r, 3, false)
	flat := bytes.Clone(f.flats[2])
	c, err := vdcore.OpenFS(f.fs, f.top(), vdcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	d := c.Top()
	const stripe = 1536 // writers own every 8th one
	var writers, others sync.WaitGroup
	stop := make(chan struct{})
	for k := range int64(8) {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(k), 23))
			for range 150 {
				off := (r.Int64N(d.Capacity()/stripe/8)*8 + k) * stripe
				p := random(r, min(stripe, d.Capacity()-off))
				if r.IntN(4) == 0 {
					clear(p)
				}
				var err error
				if r.IntN(6) == 0 {
					clear(p)
					err = d.Discard(off, int64(len(p)))
				} else {
					_, err = d.WriteAt(p, off)
				}
				got := make([]byte, len(p))
				if _, rerr := d.ReadAt(got, off); err != nil || rerr != nil && rerr != io.EOF || !bytes.Equal(got, p) {
					t.Errorf("wrote %d at %d, %v; read something else, %v", len(p), off, err, rerr)
				}
				copy(flat[off:], p)
			}
		})
	}
	for range 2 {
		others.Go(func() {
			buf := make([]byte, d.Capacity())
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := d.ReadAt(buf, 0); err != nil {
					t.Error(err)
				}
				if err := d.Sync(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	others.Wait()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(contentOf(t, f.fs, f.top()), flat) {
		t.Error("the image opened again shows something else")
	}
}

// TestWriteEnd: nothing grows past the end of the disk.
func TestWriteEnd(t *testing.T) {
	f := newFamily(rand.New(rand.NewPCG(1, 24)), 1, false)
	c := openMem(t, f.fs, f.top(), vdcore.Options{Write: true})
	d := c.Top()
	if n, err := d.WriteAt(make([]byte, 100), d.Capacity()-40); n != 40 || !errors.Is(err, vdcore.ErrNoSpace) {
		t.Errorf("%d bytes written over the end, %v", n, err)
	}
	if n, err := d.WriteAt([]byte{1}, d.Capacity()); n != 0 || !errors.Is(err, vdcore.ErrNoSpace) {
		t.Errorf("%d bytes written behind the end, %v", n, err)
	}
	if err := d.Discard(d.Capacity()-10, 100); err != nil {
		t.Error(err)
	}
	if err := d.Allocate(d.Capacity()-10, 100); !errors.Is(err, vdcore.ErrNoSpace) {
		t.Errorf("allocated over the end: %v", err)
	}
}

// TestReadOnlyDisks: nothing is written that was not asked for.
func TestReadOnlyDisks(t *testing.T) {
	f := newFamily(rand.New(rand.NewPCG(1, 25)), 2, false)
	for name, d := range map[string]*vdcore.Disk{
		"chain opened for reading": openMem(t, f.fs, f.top(), vdcore.Options{}).Top(),
		"lower layer":              openMem(t, f.fs, f.top(), vdcore.Options{Write: true}).Disk(0),
	} {
		_, err := d.WriteAt([]byte{1}, 0)
		for _, err := range []error{err, d.Discard(0, 1), d.Allocate(0, 1)} {
			if !errors.Is(err, vdcore.ErrReadOnly) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if d.Writable() {
			t.Errorf("%s says that it can be written", name)
		}
	}
}

// TestRefusedForWriting: images whose change would break something.
func TestRefusedForWriting(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 26))
	f := newFamily(r, 3, false)
	write := vdcore.Options{Write: true}
	refused := func(why, path string, o vdcore.Options, want error, words ...string) {
		t.Helper()
		c, err := vdcore.OpenFS(f.fs, path, o)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", why, err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", why, err, w)
			}
		}
	}
	refused("a parent", f.paths[1], write, vdcore.ErrInUse, f.paths[2], "--break-children")
	o := write
	o.BreakChildren = true
	openMem(t, f.fs, f.paths[1], o)

	registry := func(machine, disks string) []byte {
		return []byte(`<VirtualBox><Machine ` + machine + `><MediaRegistry><HardDisks>` + disks + `</HardDisks></MediaRegistry>` +
			`<StorageControllers><AttachedDevice><Image uuid="{` + f.vdis[2].ID.String() + `}"/></AttachedDevice></StorageControllers></Machine></VirtualBox>`)
	}
	top := `<HardDisk uuid="{` + f.vdis[2].ID.String() + `}" location="layer2.vdi">`
	f.fs.Put("/vm/m.vbox", registry("", top+`<HardDisk uuid="{`+vdtest.RandomUUID(r).String()+`}" location="/far/child.vdi"/></HardDisk>`))
	refused("a parent by the registry", f.paths[2], write, vdcore.ErrInUse, "/far/child.vdi", "m.vbox")
	f.fs.Put("/vm/m.vbox", registry(`stateFile="x.sav"`, top+`</HardDisk>`))
	refused("a saved state", f.paths[2], write, vdcore.ErrInUse, "saved state", "m.vbox")
	f.fs.Put("/vm/m.vbox", registry("", top+`</HardDisk>`))
	openMem(t, f.fs, f.paths[2], write)

	f.vdis[1].Mod = vdtest.RandomUUID(r)
	f.fs.Put(f.paths[1], f.vdis[1].Bytes())
	refused("a modified parent", f.paths[2], write, vdcore.ErrMismatch, "--allow-modified-parent")
	if err := f.fs.Remove(f.paths[1]); err != nil {
		t.Fatal(err)
	}
	o = vdcore.Options{Write: true, AllowIncomplete: true}
	refused("no parent", f.paths[2], o, vdcore.ErrMissing, "parent", "until that is back")
}

// TestIdentityRenewed: once, before the first change, and only then.
func TestIdentityRenewed(t *testing.T) {
	f := newFamily(rand.New(rand.NewPCG(1, 27)), 2, false)
	before := bytes.Clone(f.fs.Bytes(f.top()))
	mod := func() []byte { return bytes.Clone(f.fs.Bytes(f.top())[408:424]) }
	c, err := vdcore.OpenFS(f.fs, f.top(), vdcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Top().Sync(), c.Close()); err != nil || !bytes.Equal(f.fs.Bytes(f.top()), before) {
		t.Errorf("opened for writing and not written to, but changed (%v)", err)
	}
	c, err = vdcore.OpenFS(f.fs, f.top(), vdcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Top().WriteAt([]byte{1}, 0); err != nil {
		t.Error(err)
	}
	first := mod()
	if bytes.Equal(first, before[408:424]) {
		t.Error("written, but the modification UUID is the old one")
	}
	if _, err := c.Top().WriteAt([]byte{2}, 1<<20); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil || !bytes.Equal(mod(), first) {
		t.Errorf("the modification UUID changed twice (%v)", err)
	}
}

// TestGuards: who may open what at the same time, on real files.
func TestGuards(t *testing.T) {
	f := newFamily(rand.New(rand.NewPCG(1, 28)), 2, false)
	dir := t.TempDir()
	at := func(i int) string { return filepath.Join(dir, fmt.Sprintf("layer%d.vdi", i)) }
	for i, p := range f.paths {
		if err := os.WriteFile(at(i), f.fs.Bytes(p), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read, write := vdcore.Options{}, vdcore.Options{Write: true, BreakChildren: true}
	for _, c := range []struct {
		name       string
		first      int
		how        vdcore.Options
		then       int
		what       vdcore.Options
		compatible bool
	}{
		{"two readers", 1, read, 1, read, true},
		{"a reader of the parent", 1, read, 0, read, true},
		{"two writers", 1, write, 1, write, false},
		{"reader, then writer", 1, read, 1, write, false},
		{"writer, then reader", 1, write, 1, read, false},
		{"writer of the parent below a reader", 1, read, 0, write, false},
		{"reader of the parent below a writer", 1, write, 0, read, true},
		{"writer of the parent below a writer", 1, write, 0, write, false},
	} {
		a, err := vdcore.Open(at(c.first), c.how)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		b, err := vdcore.Open(at(c.then), c.what)
		if err == nil {
			b.Close()
		}
		if c.compatible != (err == nil) || err != nil && !errors.Is(err, vdcore.ErrInUse) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if b, err = vdcore.Open(at(c.then), c.what); err != nil {
			t.Errorf("%s: still locked: %v", c.name, err)
			continue
		}
		b.Close()
	}
}
