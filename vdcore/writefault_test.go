package vdcore_test

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/faultfs"
	"vdfs/vdcore/vdtest"
)

const faultBlock = 128 << 10

// fullBase is a child that holds nothing of a parent that holds everything.
func fullBase() *vdtest.Mem {
	r := rand.New(rand.NewPCG(1, 41))
	base := &vdtest.VDI{Capacity: 8 * faultBlock, BlockSize: faultBlock, ID: vdtest.RandomUUID(r), Mod: vdtest.RandomUUID(r)}
	child := &vdtest.VDI{Capacity: base.Capacity, BlockSize: faultBlock, ID: vdtest.RandomUUID(r), Mod: vdtest.RandomUUID(r), Parent: base.ID, ParentMod: base.Mod}
	for i := range 8 {
		base.Map = append(base.Map, uint32(i))
		base.Slots = append(base.Slots, bytes.Repeat([]byte{byte(0xA0 + i)}, faultBlock))
		child.Map = append(child.Map, vdtest.VDIFree)
	}
	m := vdtest.NewMem()
	m.Put("/v/base.vdi", base.Bytes())
	m.Put("/v/child.vdi", child.Bytes())
	return m
}

func openChild(t *testing.T, fs storage.FS) (*vdcore.Chain, func(off int64, p []byte)) {
	t.Helper()
	c, err := vdcore.OpenFS(fs, "/v/child.vdi", vdcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	return c, func(off int64, p []byte) {
		t.Helper()
		if _, err := c.Top().WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
}

// TestZerosOverFresh: a whole unit of zeros over one that was written in part, whose
// parent cannot be read, so that no commit will ever fill it.
func TestZerosOverFresh(t *testing.T) {
	f := faultfs.New(fullBase(), faultfs.Rule{})
	c, write := openChild(t, f)
	write(4096, []byte{1})
	f.Set(faultfs.Rule{Ops: faultfs.Read, At: 1, Forever: true, Match: func(p string) bool { return filepath.Base(p) == "base.vdi" }})
	write(0, make([]byte, faultBlock)) // spun here
	f.Clear()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestDiscardFails: a unit whose place could not be given back is discarded all the
// same, and what is written to it afterwards is there when the image is opened again.
func TestDiscardFails(t *testing.T) {
	for _, again := range []bool{false, true} {
		m := fullBase()
		f := faultfs.New(m, faultfs.Rule{})
		c, write := openChild(t, f)
		write(0, bytes.Repeat([]byte{7}, faultBlock))
		f.Set(faultfs.Rule{Ops: faultfs.Punch, At: 1})
		if err := c.Top().Discard(0, faultBlock); err == nil {
			t.Error("the failure is kept quiet")
		}
		if again {
			write(0, bytes.Repeat([]byte{9}, faultBlock))
		}
		live := make([]byte, faultBlock)
		if _, err := c.Top().ReadAt(live, 0); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if got := contentOf(t, m, "/v/child.vdi")[:faultBlock]; !bytes.Equal(got, live) {
			t.Errorf("written again %v: reads %#x opened again, %#x before", again, got[0], live[0])
		}
	}
}

// limited is a file system whose files cannot grow beyond a size.
type limited struct {
	storage.FS
	most int64
}

type limitedFile struct {
	storage.File
	most int64
}

func (l limited) Below(dir string) storage.FS { return limited{l.FS.Below(dir), l.most} }

func (l limited) Open(p string, m storage.Mode) (storage.File, error) {
	f, err := l.FS.Open(p, m)
	if err != nil {
		return nil, err
	}
	return limitedFile{f, l.most}, nil
}

func (f limitedFile) Truncate(n int64) error {
	if n > f.most {
		return syscall.EFBIG
	}
	return f.File.Truncate(n)
}

// TestCannotGrow: a write there is no room for fails, and does not keep what was
// written before from being saved.
func TestCannotGrow(t *testing.T) {
	m := fullBase()
	c, write := openChild(t, limited{m, int64(len(m.Bytes("/v/child.vdi"))) + 2*faultBlock + 1000})
	write(0, []byte{1})
	write(faultBlock, []byte{2})
	if _, err := c.Top().WriteAt([]byte{3}, 2*faultBlock); err == nil {
		t.Fatal("there was no room")
	}
	if err := c.Top().Sync(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got := contentOf(t, m, "/v/child.vdi"); got[0] != 1 || got[faultBlock] != 2 || got[2*faultBlock] != 0xA2 {
		t.Errorf("reads %x %x %x", got[0], got[faultBlock], got[2*faultBlock])
	}
}

// TestPlainParent: a plain disk has no identity to renew, so the name alone keeps it
// from being written below its child.
func TestPlainParent(t *testing.T) {
	m := vdtest.NewMem()
	m.Put("/v/disk.raw", make([]byte, 1<<20))
	b, err := vdcore.Lookup("vmdk")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), vdcore.CreateArgs{FS: m, Path: "/v/over.vmdk", Capacity: 1 << 20,
		UUID: vdtest.RandomUUID(rand.New(rand.NewPCG(1, 42))), Parent: &vdcore.CreateParent{Info: &vdcore.Info{Format: "raw", Capacity: 1 << 20}, Hint: "disk.raw"}}); err != nil {
		t.Fatal(err)
	}
	c, err := vdcore.OpenFS(m, "/v/disk.raw", vdcore.Options{Write: true})
	if err == nil {
		c.Close()
		t.Error("a plain disk with a child beside it is written to")
	}
}
