package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zlib"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// This file writes images by the format notes; it shares no code with the reader.

// text is a descriptor of the given type and extent lines.
func text(createType string, lines ...string) []byte {
	return []byte("# Disk DescriptorFile\nversion=1\nCID=7f51f87\nparentCID=ffffffff\ncreateType=\"" + createType +
		"\"\n\n# Extent description\n" + strings.Join(lines, "\n") +
		"\n\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.adapterType = \"ide\"\n")
}

// stamp is the content of grain i: no two are alike.
func stamp(i, size int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("[grain %08d]...", i)), size/16+1)[:size]
}

const (
	free = -1
	zero = -2
)

// hosted describes a hosted sparse file. Grains hold a place in file order, or
// free or zero.
type hosted struct {
	capacity int // sectors
	grain    int // sectors
	grains   []int
	desc     []byte
	packed   bool
	footer   bool
}

// bytes lays the file out as VirtualBox does: header, descriptor, redundant
// directory and tables, directory and tables, grains.
func (h hosted) bytes() []byte {
	le := binary.LittleEndian
	tables := (len(h.grains) + 511) / 512
	dirSectors := (tables*4 + 511) / 512
	rgd := 1 + 20
	gd := rgd + dirSectors + tables*4
	overhead := (gd + dirSectors + tables*4 + 127) / 128 * 128
	b := make([]byte, overhead*512)
	copy(b, "KDMV")
	version, flags := 2, 7
	if h.packed {
		version, flags = 3, 0x30007
		le.PutUint16(b[77:], 1)
	}
	le.PutUint32(b[4:], uint32(version))
	le.PutUint32(b[8:], uint32(flags))
	le.PutUint64(b[12:], uint64(h.capacity))
	le.PutUint64(b[20:], uint64(h.grain))
	le.PutUint64(b[28:], 1)
	le.PutUint64(b[36:], 20)
	le.PutUint32(b[44:], 512)
	le.PutUint64(b[48:], uint64(rgd))
	le.PutUint64(b[56:], uint64(gd))
	le.PutUint64(b[64:], uint64(overhead))
	copy(b[73:], "\n \r\n")
	copy(b[512:], h.desc)
	entries := make([]uint32, tables*512)
	for _, i := range h.order() {
		entries[i] = uint32(len(b) / 512)
		b = append(b, h.record(i)...)
	}
	for i, place := range h.grains {
		if place == zero {
			entries[i] = 1
		}
	}
	for _, dir := range []int{rgd, gd} {
		first := dir + dirSectors
		for t := range tables {
			le.PutUint32(b[dir*512+t*4:], uint32(first+t*4))
		}
		for i, e := range entries {
			le.PutUint32(b[first*512+i*4:], e)
		}
	}
	if h.footer {
		b = withFooter(b)
	}
	return b
}

// withFooter moves the positions of the directories to a footer.
func withFooter(b []byte) []byte {
	footer := bytes.Clone(b[:512])
	binary.LittleEndian.PutUint64(b[56:], ^uint64(0))
	binary.LittleEndian.PutUint64(b[48:], 0)
	marker := make([]byte, 512)
	marker[0], marker[12] = 1, 3
	return append(append(append(b, marker...), footer...), make([]byte, 512)...)
}

// order lists the grains that are held, by their place in the file.
func (h hosted) order() []int {
	var list []int
	for place := 0; ; place++ {
		found := false
		for i, p := range h.grains {
			if p == place {
				list, found = append(list, i), true
			}
		}
		if !found {
			return list
		}
	}
}

func (h hosted) record(i int) []byte {
	data := stamp(i, h.grain*512)
	if !h.packed {
		return data
	}
	return packRecord(uint64(i*h.grain), deflated(data))
}

func deflated(data []byte) []byte {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(data)
	w.Close()
	return z.Bytes()
}

func packRecord(lba uint64, data []byte) []byte {
	r := binary.LittleEndian.AppendUint64(nil, lba)
	r = binary.LittleEndian.AppendUint32(r, uint32(len(data)))
	r = append(r, data...)
	return append(r, make([]byte, (512-len(r)%512)%512)...)
}

// flat is the content the grains make.
func (h hosted) flat() []byte { return flatOf(h.capacity*512, h.grain*512, h.grains) }

func flatOf(size, grain int, grains []int) []byte {
	b := make([]byte, len(grains)*grain)
	for i, place := range grains {
		if place >= 0 {
			copy(b[i*grain:], stamp(i, grain))
		}
	}
	return b[:size]
}

// cowd is a COWD file whose held grains lie in the order of the guest.
func cowd(capacity, grain int, grains []int) []byte {
	le := binary.LittleEndian
	tables := (len(grains) + 4095) / 4096
	b := make([]byte, (4+1+tables*32)*512)
	copy(b, "COWD")
	for at, v := range map[int]int{4: 1, 8: 3, 12: capacity, 16: grain, 20: 4, 24: tables} {
		le.PutUint32(b[at:], uint32(v))
	}
	for t := range tables {
		le.PutUint32(b[4*512+t*4:], uint32(5+t*32))
	}
	for i, place := range grains {
		if place >= 0 {
			le.PutUint32(b[5*512+i*4:], uint32(len(b)/512))
			b = append(b, stamp(i, grain*512)...)
		}
	}
	le.PutUint32(b[28:], uint32(len(b)/512))
	return b
}

const seUnmapped = -3

// se is a seSparse file; the place of a grain is its index in the grains region.
func se(capacity int, grains []int) []byte {
	le := binary.LittleEndian
	tables := (len(grains) + 4095) / 4096
	held := 0
	for _, p := range grains {
		held = max(held, p+1)
	}
	const dir, gts = 16, 32
	bitmap := gts + tables*64
	backmap := bitmap + 8
	data := backmap + 8
	b := make([]byte, (data+held*8)*512)
	regions := []int{1, 1, 2, 2, 8, 8, dir, 16, gts, tables * 64, bitmap, 8, backmap, 8, data, held * 8}
	for i, v := range append([]int{0xCAFEBABE, 0x0000000200000001, capacity, 8, 64, 0, 0, 0, 0, 0}, regions...) {
		le.PutUint64(b[i*8:], uint64(v))
	}
	le.PutUint64(b[512:], 0xCAFECAFE)
	for t := range tables {
		le.PutUint64(b[dir*512+t*8:], 0x1000000000000000|uint64(t))
	}
	for i, p := range grains {
		e := uint64(0)
		switch {
		case p == zero:
			e = 2 << 60
		case p == seUnmapped:
			e = 1 << 60
		case p >= 0:
			e = 3<<60 | uint64(p&0xFFF)<<48 | uint64(p>>12)
			copy(b[(data+p*8)*512:], stamp(i, 4096))
		}
		le.PutUint64(b[gts*512+i*8:], e)
	}
	return b
}

// files is a set of files in memory.
type files map[string][]byte

// open opens a file of the set the way the chain does, and closes it with the
// test.
func (fs files) open(t testing.TB, name string) (vdcore.Image, error) {
	t.Helper()
	m := vdtest.NewMem()
	for n, b := range fs {
		m.Put(filepath.Join("/vm", n), b)
	}
	path := filepath.Join("/vm", name)
	f, err := m.Open(path, storage.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	img, err := open(vdcore.OpenArgs{File: f, Path: path, FS: m.Below("/vm"), Tables: vdcore.NewTables()})
	if err != nil {
		f.Close()
	} else {
		img.Close()
	}
	if n := m.OpenFiles(); n != 0 {
		t.Errorf("%d files left open", n)
	}
	if err != nil {
		return nil, err
	}
	f, _ = m.Open(path, storage.ReadOnly)
	img, err = open(vdcore.OpenArgs{File: f, Path: path, FS: m.Below("/vm"), Tables: vdcore.NewTables()})
	if err == nil {
		t.Cleanup(func() { img.Close() })
	}
	return img, err
}

// must is open for images that have to open without damage.
func (fs files) must(t testing.TB, name string) vdcore.Image {
	t.Helper()
	img, err := fs.open(t, name)
	if err != nil {
		t.Fatal(err)
	}
	if d := img.Info().Damage; len(d) > 0 {
		t.Fatalf("damage: %v", d)
	}
	return img
}

// content is the whole flat content.
func content(t testing.TB, img vdcore.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	b.Grow(int(img.Info().Capacity))
	if err := flatten(&b, []vdcore.Image{img}, 0, img.Info().Capacity); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
