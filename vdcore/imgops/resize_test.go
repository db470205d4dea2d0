package imgops_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

func resize(ctx context.Context, fsys storage.FS, path string, capacity int64) error {
	chain, err := vdcore.OpenFS(fsys, path, vdcore.Options{Write: true})
	if err != nil {
		return err
	}
	return imgops.Resize(ctx, chain, capacity, nil)
}

// resized is what a disk shows with another capacity.
func resized(flat []byte, capacity int64) []byte {
	b := make([]byte, capacity)
	copy(b, flat)
	return b
}

// vdiFull is an image that holds all its blocks, in a random order, with no room
// between map and data; fixed or not.
func vdiFull(seed uint64, fixed bool) vdtest.WriteCase {
	const block, blocks = 128 << 10, 12
	r := rand.New(rand.NewPCG(seed, 7))
	v := &vdtest.VDI{Capacity: blocks * block, BlockSize: block, ID: vdtest.RandomUUID(r), Mod: vdtest.RandomUUID(r)}
	flat := make([]byte, v.Capacity)
	v.Slots = make([][]byte, blocks)
	for i, slot := range r.Perm(blocks) {
		data := flat[i*block : (i+1)*block]
		for k := 0; k < len(data); k += 512 {
			binary.LittleEndian.PutUint64(data[k:], r.Uint64())
		}
		v.Map, v.Slots[slot] = append(v.Map, uint32(slot)), data
	}
	b := v.Bytes()
	name := "vdi full"
	if fixed {
		name = "vdi fixed"
		binary.LittleEndian.PutUint32(b[76:], 2)
	}
	return vdtest.WriteCase{Name: name, Open: "/vm/disk.vdi", Files: map[string][]byte{"/vm/disk.vdi": b}, Flat: flat, BlockSize: block}
}

// splitCase is a split sparse VMDK of one small piece.
func splitCase(t *testing.T) vdtest.WriteCase {
	t.Helper()
	f, path, flat := onDisk(nil), "/vm/disk.vmdk", make([]byte, 1<<20)
	b, err := vdcore.Lookup("vmdk")
	if err == nil {
		err = b.Create(t.Context(), vdcore.CreateArgs{FS: f, Path: path, Variant: "split2g", Capacity: int64(len(flat)), UUID: uuid.New()})
	}
	if err == nil {
		err = with(f, path, vdcore.Options{Write: true}, func(chain *vdcore.Chain) error {
			copy(flat[300000:], bytes.Repeat([]byte("piece"), 40000))
			_, err := chain.Top().WriteAt(flat[300000:500000], 300000)
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	c := vdtest.WriteCase{Name: "vmdk split", Open: path, Files: map[string][]byte{}, Flat: flat, BlockSize: 64 << 10}
	for _, p := range f.Paths() {
		c.Files[p] = f.Bytes(p)
	}
	return c
}

// sized is a case with the capacities it is given.
type sized struct {
	vdtest.WriteCase
	to []int64
}

func resizeCases(t *testing.T) []sized {
	one := func(c vdtest.WriteCase, to ...int64) sized { return sized{c, to} }
	list := []sized{
		one(vdiCase(1, 1), 23<<17+40<<10, 30<<17, 130<<17),
		one(vdiCase(2, 3), 30<<17, 130<<17),
		one(vdiFull(3, false), 13<<17, 130<<17),
		one(vdiFull(4, true), 13<<17+512, 130<<17),
	}
	list = append(list,
		one(vdtest.CreatedCase(t, "vmdk", ".vmdk", 5, 1, 3<<20+512, 64<<10), 3<<20+1024, 3<<20+64<<10, 34<<20),
		one(vdtest.CreatedCase(t, "vmdk", ".vmdk", 6, 2, 1<<20, 64<<10), 2<<20, 5<<20),
		one(vdtest.GoldenWriteCase(t, "vmdk-flat", 0, 64<<10), 17<<20+512),
		one(vdtest.GoldenWriteCase(t, "vmdk-qemu-zeroed", 0, 64<<10), 40<<20),
	)
	list = append(list, one(splitCase(t), 5<<20, 5<<20+256<<10))
	raw := make([]byte, 300000)
	rand.NewChaCha8([32]byte{}).Read(raw)
	return append(list, one(vdtest.WriteCase{
		Name: "raw", Open: "/d/disk.img", Files: map[string][]byte{"/d/disk.img": bytes.Clone(raw)}, Flat: raw, BlockSize: 20 << 10,
	}, 300001, 1<<20))
}

// TestResize grows, refuses to cut data off, and shrinks back.
func TestResize(t *testing.T) {
	for _, c := range resizeCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			f := onDisk(c.Files)
			id := identity(t, f, c.Open)
			for _, to := range c.to {
				if err := resize(t.Context(), f, c.Open, to); err != nil {
					t.Fatalf("to %d: %v", to, err)
				}
				got, err := content(f, c.Open, false)
				if err != nil || !bytes.Equal(got, resized(c.Flat, to)) {
					t.Fatalf("of %d bytes it shows something else (%v)", to, err)
				}
			}
			if after := identity(t, f, c.Open); after == id && after != (vdcore.Identity{}) {
				t.Error("the identity stays")
			}
			writeTail(t, f, c.Open)
			err := resize(t.Context(), f, c.Open, int64(len(c.Flat)))
			if !errors.Is(err, vdcore.ErrCut) || !strings.Contains(err.Error(), "guest bytes") {
				t.Errorf("data would be lost: %v", err)
			}
			if err := with(f, c.Open, vdcore.Options{Write: true}, func(chain *vdcore.Chain) error {
				n := int64(len(c.Flat))
				return chain.Top().Discard(n, chain.Top().Capacity()-n)
			}); err != nil {
				t.Fatal(err)
			}
			if err := resize(t.Context(), f, c.Open, int64(len(c.Flat))); err != nil {
				t.Fatal(err)
			}
			got, err := content(f, c.Open, false)
			if err != nil || !bytes.Equal(got, c.Flat) {
				t.Errorf("back at its size it shows something else (%v)", err)
			}
			unmoved(t, f, c.WriteCase)
		})
	}
}

// writeTail writes to the last sector.
func writeTail(t *testing.T, fsys storage.FS, path string) {
	t.Helper()
	if err := with(fsys, path, vdcore.Options{Write: true}, func(chain *vdcore.Chain) error {
		_, err := chain.Top().WriteAt([]byte("the end"), chain.Top().Capacity()-7)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestResizeCrash lets the power go at every operation of growing, and of shrinking
// back. The disk has the old or the new capacity then.
func TestResizeCrash(t *testing.T) {
	vdtest.Loop(t)
	for _, c := range resizeCases(t) {
		for _, to := range c.to {
			crashResize(t, c.WriteCase, to)
		}
		f := onDisk(c.Files)
		large := c.WriteCase
		if err := resize(t.Context(), f, c.Open, c.to[0]); err != nil {
			t.Fatal(err)
		}
		large.Files = map[string][]byte{}
		for _, path := range f.Paths() {
			large.Files[path] = f.Bytes(path)
		}
		large.Flat = resized(c.Flat, c.to[0])
		crashResize(t, large, int64(len(c.Flat)))
	}
}

func crashResize(t *testing.T, c vdtest.WriteCase, to int64) {
	t.Helper()
	vdtest.CrashOperation(t, vdtest.Operation{
		Name: fmt.Sprintf("resize %s from %d to %d", c.Name, len(c.Flat), to), Files: c.Files,
		Do: func(fsys storage.FS) error { return resize(context.Background(), fsys, c.Open, to) },
		Look: func(fsys storage.FS, done bool) error {
			got, err := content(fsys, c.Open, !done)
			switch {
			case err != nil:
				return err
			case int64(len(got)) != to && (done || len(got) != len(c.Flat)):
				return fmt.Errorf("a disk of %d bytes", len(got))
			case !bytes.Equal(got, resized(c.Flat, int64(len(got)))):
				return fmt.Errorf("a disk of %d bytes shows something else", len(got))
			}
			return nil
		},
	}, vdtest.CrashOptions{MaxCuts: imgops.Cuts(max(to, int64(len(c.Flat)))), Survivors: 4})
}

// TestResizeHuge: a disk with one block becomes one of 1 TiB; a VMDK, while cuts are
// sampled, one of 128 GiB. The map of the VDI covers more slots than there are then, and
// VirtualBox 7.2 destroys it.
func TestResizeHuge(t *testing.T) {
	vdtest.Loop(t)
	const small = 64 << 20
	data := bytes.Repeat([]byte("one block"), 100000)
	for _, format := range []string{"vdi", "vmdk"} {
		large, maxCuts := int64(1)<<40, imgops.Cuts(20<<20)
		if format == "vmdk" && maxCuts > 0 {
			large = 1 << 37 // many grain tables take long to check
		}
		path := "/vm/disk." + format
		f := onDisk(nil)
		create(t, f, path, small)
		if err := with(f, path, vdcore.Options{Write: true}, func(chain *vdcore.Chain) error {
			_, err := chain.Top().WriteAt(data, 5<<20+100)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		vdtest.CrashOperation(t, vdtest.Operation{
			Name: fmt.Sprintf("%s to %d GiB", format, large>>30), Files: map[string][]byte{path: f.Bytes(path)},
			Do: func(fsys storage.FS) error { return resize(context.Background(), fsys, path, large) },
			Look: func(fsys storage.FS, done bool) error {
				return with(fsys, path, vdcore.Options{}, func(chain *vdcore.Chain) error {
					return onlyHolds(chain.Top(), data, 5<<20+100, done, small, large)
				})
			},
		}, vdtest.CrashOptions{MaxCuts: maxCuts, Survivors: 2})
	}
}

func create(t *testing.T, fsys storage.FS, path string, capacity int64) {
	t.Helper()
	b, err := vdcore.Lookup(strings.TrimPrefix(filepath.Ext(path), "."))
	if err == nil {
		err = b.Create(t.Context(), vdcore.CreateArgs{FS: fsys, Path: path, Capacity: capacity, UUID: uuid.New()})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// onlyHolds fails unless a disk has a capacity that may be and holds nothing but data.
func onlyHolds(d *vdcore.Disk, data []byte, off int64, done bool, small, large int64) error {
	if n := d.Capacity(); n != large && (done || n != small) {
		return fmt.Errorf("a disk of %d bytes", n)
	}
	found, err := d.Layer().Image.(vdcore.Checker).Check()
	for _, f := range found {
		if done || !leftOver(f) {
			err = errors.Join(err, fmt.Errorf("%s: %s", f.Code, f.Text))
		}
	}
	return errors.Join(err, d.Each(0, d.Capacity(), func(f vdcore.Flat) bool {
		if f.Kind == vdcore.Zero {
			return true
		}
		p := make([]byte, f.Len)
		want := make([]byte, f.Len)
		copy(want[max(0, off-f.Off):], data[max(0, f.Off-off):])
		err = errors.Join(err, storage.ReadFull(d, p, f.Off))
		if !bytes.Equal(p, want) {
			err = errors.Join(err, fmt.Errorf("something else at %d", f.Off))
		}
		return true
	}), err)
}
