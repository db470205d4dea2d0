package vdcore_test

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	_ "vdfs/formats/all"
	"vdfs/vdcore"
	"vdfs/vdcore/vdtest"
)

// smallChain is a parent and a child in a few kilobytes: headers and maps only,
// no block allocated.
func smallChain() (parent, child []byte) {
	r := rand.New(rand.NewPCG(8, 8))
	p := &vdtest.VDI{Capacity: 4 << 20, BlockSize: 1 << 20, ID: vdtest.RandomUUID(r), Mod: vdtest.RandomUUID(r)}
	p.Map = []uint32{vdtest.VDIFree, vdtest.VDIZero, vdtest.VDIFree, vdtest.VDIZero}
	c := *p
	c.ID, c.Mod, c.Parent, c.ParentMod = vdtest.RandomUUID(r), vdtest.RandomUUID(r), p.ID, p.Mod
	return p.Bytes(), c.Bytes()
}

const fuzzDescriptor = "# Disk DescriptorFile\nversion=1\nCID=11111111\nparentCID=22222222\ncreateType=\"custom\"\nparentFileNameHint=\"parent\"\n" +
	"RW 8 ZERO\nRW 8 FLAT \"parent\" 0\nRW 8 SPARSE \"child\"\n\nddb.virtualHWVersion = \"4\"\n"

// FuzzChain opens a chain of two files of any content, reads it, and walks its
// tree: it opens or says why not, reads or says what is lost, and closes all.
func FuzzChain(f *testing.F) {
	parent, child := smallChain()
	f.Add(parent, child, false)
	f.Add(child, child, true)
	f.Add([]byte("plain"), []byte(fuzzDescriptor), true)
	f.Add([]byte(strings.ReplaceAll(fuzzDescriptor, "11111111", "22222222")), []byte(fuzzDescriptor), true)
	for at := 64; at < 472; at += 8 {
		bad := append([]byte(nil), child...)
		binary.LittleEndian.PutUint32(bad[at:], 0xFFFFFFFE)
		f.Add(parent, bad, true)
	}
	f.Fuzz(func(t *testing.T, parent, child []byte, incomplete bool) {
		m := vdtest.NewMem()
		m.Put("/vm/parent", parent)
		m.Put("/vm/child", child)
		c, err := vdcore.OpenFS(m, "/vm/child", vdcore.Options{AllowIncomplete: incomplete})
		if err == nil {
			d := c.Top()
			buf := make([]byte, 8192)
			for _, off := range []int64{0, d.Capacity() / 2, max(0, d.Capacity()-100)} {
				if n, err := d.ReadAt(buf, off); n == 0 && err == nil {
					t.Errorf("nothing read at %d without an error", off)
				}
			}
			c.Tree()
			c.Describe()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if n := m.OpenFiles(); n != 0 {
			t.Errorf("%d files left open (%v)", n, err)
		}
	})
}

// FuzzRegistry puts any text where a media registry is looked for.
func FuzzRegistry(f *testing.F) {
	_, child := smallChain()
	f.Add(`<VirtualBox><HardDisk uuid="{00000000-0000-0000-0000-000000000000}" location="x"/></VirtualBox>`)
	f.Add(`<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><VirtualBox>&x;</VirtualBox>`)
	f.Add(strings.Repeat("<a>", 1000))
	f.Fuzz(func(t *testing.T, text string) {
		m := vdtest.NewMem()
		m.Put("/vm/child", child)
		m.Put("/vm/vm.vbox", []byte(text))
		if c, err := vdcore.OpenFS(m, "/vm/child", vdcore.Options{}); err == nil {
			c.Close()
			t.Error("a chain without its parent opened")
		}
	})
}
