package vmdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
	"vdfs/vdcore/vdtest"
)

var (
	newID    = uuid.MustParse("6a1f3c2b-0000-4000-8000-00000000000a")
	parentID = uuid.MustParse("2fb1f58c-2421-4dca-a3c7-027129786a3f")
)

// made creates an image in memory and opens it.
func made(t *testing.T, args vdcore.CreateArgs) (*vdtest.Mem, *writer) {
	t.Helper()
	m := vdtest.NewMem()
	args.FS, args.Path, args.UUID = m, "/vm/new.vmdk", newID
	if err := create(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	if n := m.OpenFiles(); n != 0 {
		t.Errorf("%d files left open", n)
	}
	w, err := openFor(m, "new.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	if i := w.Info(); len(i.Warnings)+len(i.Notes)+len(i.Damage) > 0 {
		t.Errorf("%v %v %v", i.Warnings, i.Notes, i.Damage)
	}
	return m, w
}

// TestCreate: new images of all sizes are empty, sound, laid out as VirtualBox lays
// them out, and can be written to.
func TestCreate(t *testing.T) {
	for _, capacity := range []int64{512, 64 << 10, 64<<10 + 512, 32 << 20, 64 << 20, 5<<30 + 512} {
		m, w := made(t, vdcore.CreateArgs{Capacity: capacity})
		if w.info.Capacity != capacity || w.info.UUID != newID || !w.info.HasCID || w.info.ModUUID == uuid.Nil || w.info.Parent != nil || w.info.Variant != "monolithicSparse" {
			t.Errorf("%+v", w.info)
		}
		if got, err := w.Map(nil, 0, capacity); err != nil || len(got) != 1 || got[0].Kind != vdcore.Free {
			t.Errorf("map %v, %v", got, err)
		}
		u := w.Unit(capacity - 1)
		p, err := w.Reserve(u)
		change := []vdcore.Change{{Unit: u, Kind: vdcore.Data, Place: p}}
		if err := errors.Join(err, w.Begin(false), w.Prepare(change), w.Publish(change), w.Finish()); err != nil {
			t.Fatal(err)
		}
		b := m.Bytes("/vm/new.vmdk")
		checkClosed(t, b)
		if p.Pos != w.own.blockSize()*int64(w.own.Overhead)/128 || w.own.Capacity%128 != 0 {
			t.Errorf("the first grain lies at %d", p.Pos)
		}
		if capacity == 64<<20 && (w.own.SpareDirectory != 0x15 || w.own.Directory != 0x1E || w.own.Overhead != 128 || b[0x1E*512] != 0x1F) {
			t.Errorf("layout %+v", w.own)
		}
	}
}

// TestCreateChild: the words for a parent, in both worlds.
func TestCreateChild(t *testing.T) {
	mod := uuid.MustParse("11111111-2222-4333-8444-555555555555")
	vbox := vdcore.Identity{UUID: parentID, ModUUID: mod}
	both := vbox
	both.CID, both.HasCID = 0x7f51f87, true
	for _, c := range []struct {
		name string
		info vdcore.Info
		cid  string
		want vdcore.ParentRef
	}{
		{"VMDK of VirtualBox", vdcore.Info{Identity: both}, "07f51f87", vdcore.ParentRef{UUID: parentID, ModUUID: mod, Hint: "base.vmdk"}},
		{"VMDK of QEMU", vdcore.Info{Identity: vdcore.Identity{CID: 0x7f51f87, HasCID: true}}, "07f51f87", vdcore.ParentRef{CID: 0x7f51f87, Hint: "base.vmdk"}},
		{"VDI", vdcore.Info{Identity: vbox}, "ffffffff", vdcore.ParentRef{UUID: parentID, ModUUID: mod}},
		{"plain", vdcore.Info{}, "ffffffff", vdcore.ParentRef{CID: vdcore.NoParentCID, Hint: "base.vmdk"}},
	} {
		c.info.PCHS = vdcore.Geometry{Cylinders: 5, Heads: 4, Sectors: 3}
		c.info.LCHS = vdcore.Geometry{Cylinders: 50, Heads: 40, Sectors: 30}
		_, w := made(t, vdcore.CreateArgs{Capacity: 1 << 20, Parent: &vdcore.CreateParent{Info: &c.info, Hint: "base.vmdk"}})
		i := w.Info()
		if i.Parent == nil || *i.Parent != c.want || i.PCHS != c.info.PCHS || i.LCHS != c.info.LCHS {
			t.Errorf("%s: parent %+v, geometry %v %v", c.name, i.Parent, i.PCHS, i.LCHS)
		}
		if v, _ := w.desc.get("parentCID"); v != c.cid {
			t.Errorf("%s: parentCID %s", c.name, v)
		}
	}
}

// TestCreateRefused: what cannot be made leaves nothing behind.
func TestCreateRefused(t *testing.T) {
	hint := func(h string) vdcore.CreateArgs {
		return vdcore.CreateArgs{Path: "/vm/a.vmdk", Capacity: 512, Parent: &vdcore.CreateParent{Info: &vdcore.Info{}, Hint: h}}
	}
	for name, args := range map[string]vdcore.CreateArgs{
		"nothing": {Path: "/vm/a.vmdk"}, "odd": {Path: "/vm/a.vmdk", Capacity: 513}, "negative": {Path: "/vm/a.vmdk", Capacity: -512},
		"too large": {Path: "/vm/a.vmdk", Capacity: 256 << 40}, "name": {Path: "/vm/a\".vmdk", Capacity: 512},
		"hint": hint("a\"b"), "line": hint("a\nb"), "long": hint(strings.Repeat("x", 20*512)),
	} {
		m := vdtest.NewMem()
		args.FS = m
		if err := create(t.Context(), args); !errors.Is(err, vdcore.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		if names, _ := m.List("/vm"); len(names) > 0 {
			t.Errorf("%s: left behind: %v", name, names)
		}
	}
	m := vdtest.NewMem()
	m.Put("/vm/a.vmdk", []byte("mine"))
	if err := create(t.Context(), vdcore.CreateArgs{FS: m, Path: "/vm/a.vmdk", Capacity: 512}); !errors.Is(err, fs.ErrExist) || string(m.Bytes("/vm/a.vmdk")) != "mine" {
		t.Errorf("over a file: %v", err)
	}
}

// broken fails every write from the n-th on.
type broken struct {
	storage.FS
	left int
}

type brokenFile struct {
	storage.File
	fs *broken
}

var errBroken = errors.New("broken")

func (b *broken) Open(path string, mode storage.Mode) (storage.File, error) {
	f, err := b.FS.Open(path, mode)
	return &brokenFile{f, b}, err
}

func (f *brokenFile) WriteAt(p []byte, off int64) (int, error) {
	if f.fs.left--; f.fs.left < 0 {
		return 0, errBroken
	}
	return f.File.WriteAt(p, off)
}

// TestCreateFails: a half-made image is removed.
func TestCreateFails(t *testing.T) {
	for n := 0; ; n++ {
		m := vdtest.NewMem()
		err := create(t.Context(), vdcore.CreateArgs{FS: &broken{m, n}, Path: "/vm/a.vmdk", Capacity: 1 << 20})
		if err == nil {
			if n != 4 { // text, two directories, header
				t.Errorf("%d writes", n)
			}
			return
		}
		names, _ := m.List("/vm")
		if !errors.Is(err, errBroken) || len(names) > 0 || m.OpenFiles() != 0 {
			t.Errorf("%v; left %v, %d open", err, names, m.OpenFiles())
		}
	}
}

// TestCreatePowerCut: a new image is whole, or is none.
func TestCreatePowerCut(t *testing.T) {
	for n := 1; ; n++ {
		fsys := crashfs.New()
		fsys.CutAt(n)
		if err := create(t.Context(), vdcore.CreateArgs{FS: fsys, Path: "/vm/a.vmdk", Capacity: 1 << 20}); err == nil {
			return
		}
		for _, mode := range crashfs.Modes() {
			left := fsys.SurviveAs(mode, rand.New(rand.NewPCG(1, uint64(n))))
			if b := left.Bytes("/vm/a.vmdk"); len(b) == 0 || b[0] == 0 {
				continue
			}
			if got := reads(t, left, "a.vmdk"); len(bytes.Trim(got, "\x00")) > 0 {
				t.Errorf("cut at %d: not empty", n)
			}
		}
	}
}

// agree has qemu-img check an image and compare its content with flat.
func agree(t *testing.T, dir, name string, flat []byte) {
	t.Helper()
	path, raw := filepath.Join(dir, name), filepath.Join(t.TempDir(), "flat")
	vdtest.QEMUImg(t, "check", path)
	vdtest.QEMUImg(t, "convert", "-O", "raw", path, raw)
	got, err := os.ReadFile(raw)
	got = got[:min(len(got), len(flat))] // by the header: whole grains
	if err != nil || !bytes.Equal(got, flat) {
		t.Errorf("%s: qemu-img reads something else, %v", name, err)
	}
}

// onDisk is a folder with the given files and the file system to reach it by.
func onDisk(t *testing.T, fs files) (string, storage.FS) {
	t.Helper()
	dir, err := storage.Resolve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range fs {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, err := storage.NewOS(filepath.Join(dir, "disk.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, o
}

// openOn is openFor below another folder than /vm.
func openOn(t *testing.T, o storage.FS, path string) *mini {
	t.Helper()
	f, err := o.Open(path, storage.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	img, err := open(vdcore.OpenArgs{File: f, Path: path, FS: o.Below(filepath.Dir(path)), Tables: vdcore.NewTables(), Write: true})
	if err != nil {
		t.Fatal(err)
	}
	return begin(t, img.(*writer), nil)
}

// TestWrittenForQEMU: QEMU finds what is written into its images and into ours
// sound, and reads the same.
func TestWrittenForQEMU(t *testing.T) {
	for name, options := range map[string]string{
		"sparse": "subformat=monolithicSparse", "zeroed": "subformat=monolithicSparse,zeroed_grain=on", "split": "subformat=twoGbMaxExtentSparse",
		"flat": "subformat=monolithicFlat", "split flat": "subformat=twoGbMaxExtentFlat", "ours": "",
	} {
		t.Run(name, func(t *testing.T) {
			dir, o := onDisk(t, nil)
			path := filepath.Join(dir, "disk.vmdk")
			const capacity = 70<<20 + 3*512
			if options != "" {
				vdtest.QEMUImg(t, "create", "-q", "-f", "vmdk", "-o", options, path, fmt.Sprint(capacity))
			} else if err := create(t.Context(), vdcore.CreateArgs{FS: o, Path: path, Capacity: capacity, UUID: newID}); err != nil {
				t.Fatal(err)
			}
			m := openOn(t, o, path)
			for i, off := range []int64{capacity - 1, 0, 40 << 20, 40<<20 + 64<<10} {
				if u := m.Unit(off); !u.Fixed {
					m.put(off, stamp(i, 64<<10))
				}
			}
			m.mustCommit()
			if m.Can(vdcore.Free) {
				m.make(40<<20, vdcore.Free)
			}
			if m.Can(vdcore.Zero) {
				m.make(0, vdcore.Zero)
			}
			if u := m.Unit(0); u.Fixed {
				if _, err := m.files[u.Place.File].WriteAt(stamp(1, 4096), u.Place.Pos+4096); err != nil {
					t.Fatal(err)
				}
				copy(m.flat[4096:], stamp(1, 4096))
			}
			m.finish()
			agree(t, dir, "disk.vmdk", m.flat)
		})
	}
}

// TestChainForQEMU: QEMU follows our child of its image, until that is written to.
func TestChainForQEMU(t *testing.T) {
	dir, o := onDisk(t, nil)
	base, child := filepath.Join(dir, "base.vmdk"), filepath.Join(dir, "child.vmdk")
	vdtest.QEMUImg(t, "create", "-q", "-f", "vmdk", base, "1M")
	m := openOn(t, o, base)
	m.put(0, stamp(0, 64<<10))
	m.put(5*64<<10, stamp(5, 64<<10))
	m.finish()
	parent, err := openPath(base, true)
	if err != nil {
		t.Fatal(err)
	}
	parent.Close()
	args := vdcore.CreateArgs{FS: o, Path: child, Capacity: 1 << 20, UUID: newID, Parent: &vdcore.CreateParent{Info: parent.Info(), Hint: "base.vmdk"}}
	if err := create(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	flat := m.flat
	c := openOn(t, o, child)
	c.put(64<<10, stamp(1, 64<<10))
	c.finish()
	copy(flat[64<<10:], stamp(1, 64<<10))
	agree(t, dir, "child.vmdk", flat)
	var info struct {
		Backing string `json:"full-backing-filename"`
	}
	if err := json.Unmarshal(vdtest.QEMUImg(t, "info", "--output=json", child), &info); err != nil || info.Backing != base {
		t.Errorf("the parent is %q, %v", info.Backing, err)
	}
	m = openOn(t, o, base)
	m.finish()
	if out, err := exec.Command("qemu-img", "convert", "-O", "raw", child, filepath.Join(dir, "flat")).CombinedOutput(); err == nil {
		t.Errorf("QEMU does not notice that the parent was written to: %s", out)
	}
}
