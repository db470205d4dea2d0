package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// memory is a file in memory.
type memory []byte

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(*m)) {
		*m = append(*m, make([]byte, end-int64(len(*m)))...)
	}
	return copy((*m)[off:], p), nil
}

// picture is a source, its devices and what it must read as.
type picture struct {
	Source
	extents []Extent
	devices [][]byte
	content []byte
}

func newPicture(devices ...[]byte) *picture {
	p := &picture{devices: devices}
	for _, d := range devices {
		p.Devices = append(p.Devices, int64(len(d)))
	}
	p.Each = func(yield func(Extent) bool) error {
		for _, e := range p.extents {
			if !yield(e) {
				break
			}
		}
		return nil
	}
	return p
}

// add appends an extent; what is to be copied is made up.
func (p *picture) add(n int64, device int, pos int64) {
	p.extents = append(p.extents, Extent{p.Size, n, device, pos})
	part := make([]byte, n)
	switch device {
	case Hole:
	case Copy:
		part = noise(rand.New(rand.NewPCG(uint64(p.Size), 11)), int(n))
	default:
		copy(part, p.devices[device][pos:pos+n])
	}
	p.content = append(p.content, part...)
	p.Size += n
	p.Content = bytes.NewReader(p.content)
}

// write plans and writes the image.
func (p *picture) write(t testing.TB) (*Plan, memory) {
	t.Helper()
	plan, err := NewPlan(&p.Source)
	if err != nil {
		t.Fatal(err)
	}
	var image memory
	if err := plan.WriteTo(&image); err != nil {
		t.Fatal(err)
	}
	return plan, image
}

// read reads the file in an image, by the published layout alone and with as little
// trust as a kernel has.
func read(image []byte, devices [][]byte) (content []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the image leads outside: %v", r)
		}
	}()
	le := binary.LittleEndian
	super := image[1024:1152]
	if le.Uint32(super) != 0xE0F5E1E2 || le.Uint32(super[80:])&^0xC != 0 || int(le.Uint16(super[86:])) != len(devices) {
		return nil, errors.New("superblock")
	}
	block := int64(1) << super[12]
	for i, d := range devices {
		slot := image[int(le.Uint16(super[88:]))*128+i*128:]
		if int64(le.Uint32(slot[64:])) != int64(len(d))/block {
			return nil, fmt.Errorf("device %d has %d blocks", i, le.Uint32(slot[64:]))
		}
	}
	inode := func(number uint64) []byte { return image[le.Uint32(super[40:])*uint32(block):][number*32:] }
	root := inode(uint64(le.Uint16(super[14:])))
	if le.Uint16(root) != 1 || le.Uint16(root[4:])&0o170000 != 0o040000 {
		return nil, errors.New("the root is no plain folder")
	}
	number, err := lookup(image[int64(le.Uint32(root[16:]))*block:][:le.Uint64(root[8:])], "disk")
	if err != nil {
		return nil, err
	}
	return readChunks(image, inode(number), block, devices)
}

// lookup finds a name in a folder of one block, whose names must be sorted.
func lookup(folder []byte, name string) (number uint64, err error) {
	le := binary.LittleEndian
	names := int(le.Uint16(folder[8:]))
	last := ""
	for at := 0; at < names; at += 12 {
		end := len(folder)
		if at+12 < names {
			end = int(le.Uint16(folder[at+20:]))
		}
		entry := string(folder[le.Uint16(folder[at+8:]):end])
		if entry <= last {
			return 0, fmt.Errorf("%q after %q", entry, last)
		}
		if last = entry; entry == name {
			number = le.Uint64(folder[at:])
		}
	}
	return number, nil
}

func readChunks(image, inode []byte, block int64, devices [][]byte) ([]byte, error) {
	le := binary.LittleEndian
	size, info := int64(le.Uint64(inode[8:])), le.Uint32(inode[16:])
	if le.Uint16(inode) != 1|4<<1 || info&^0x3F != 0 || info&0x20 == 0 {
		return nil, errors.New("no file in chunks")
	}
	chunk := block << (info & 0x1F)
	content := make([]byte, 0, size)
	for i := int64(0); i*chunk < size; i++ {
		n := min(chunk, size-i*chunk)
		index := inode[64+i*8:]
		device, address := le.Uint16(index[2:]), le.Uint32(index[4:])
		from := image
		if device > 0 {
			from = devices[device-1]
		}
		if address == 0xFFFFFFFF {
			content = append(content, make([]byte, n)...)
			continue
		}
		rest := (n + block - 1) / block * block // the kernel reads whole blocks
		content = append(content, from[int64(address)*block:][:rest][:n]...)
	}
	return content, nil
}

func (p *picture) verify(t testing.TB) *Plan {
	t.Helper()
	plan, image := p.write(t)
	got, err := read(image, p.devices)
	if err != nil || !bytes.Equal(got, p.content) {
		t.Fatalf("%v: %v; read %d bytes, want %d", plan, err, len(got), len(p.content))
	}
	return plan
}

// noise is random and has hardly any zeros.
func noise(r *rand.Rand, n int) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], r.Uint64())
	b := make([]byte, n)
	rand.NewChaCha8(seed).Read(b)
	return b
}

// TestPlans: what maps of the usual kinds cost.
func TestPlans(t *testing.T) {
	dev := noise(rand.New(rand.NewPCG(1, 2)), 12<<20)
	for _, c := range []struct {
		name         string
		fill         func(p *picture)
		block, chunk int64
		copied       int64
	}{
		{"blocks of 1 MiB out of order", func(p *picture) {
			for _, k := range []int64{3, 1, 2, 0, 5} {
				p.add(1<<20, 0, k<<20+4096)
			}
		}, 4096, 1 << 20, 0},
		{"in one piece", func(p *picture) { p.add(5<<20, 0, 1<<20) }, 4096, 1 << maxChunkBits, 0},
		{"nothing", func(p *picture) { p.add(8<<20, Hole, 0) }, 4096, 1 << maxChunkBits, 0},
		{"grains and a hole", func(p *picture) {
			p.add(128<<10, 0, 64<<10)
			p.add(64<<10, Hole, 0)
			p.add(64<<10, 0, 8<<20)
		}, 4096, 64 << 10, 0},
		{"places that are multiples of a sector", func(p *picture) {
			for _, k := range []int64{4, 0, 1} {
				p.add(1<<20, 0, k<<20+512)
			}
		}, 512, 1 << 20, 0},
		{"a tail that is no sector", func(p *picture) {
			p.add(1<<20, 0, 1<<20)
			p.add(1<<20+100, 0, 0)
		}, 4096, 32 << 10, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPicture(dev)
			c.fill(p)
			plan := p.verify(t)
			if plan.block() != c.block || plan.chunk() != c.chunk || plan.copied != c.copied {
				t.Errorf("%v, %d chunks copied; want blocks of %d, chunks of %d, %d copied", plan, plan.copied, c.block, c.chunk, c.copied)
			}
		})
	}
}

// TestRandom: whatever the map, the file reads as it should.
func TestRandom(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 9))
		p := newPicture(noise(r, 1<<20), noise(r, 3<<20+77), noise(r, 5000))
		unit := []int64{1, 512, 4096, 64 << 10}[r.IntN(4)]
		for range 1 + r.IntN(40) {
			n := unit * (1 + r.Int64N(max(1, 200<<10/unit)))
			device := []int{0, 0, 1, 1, 1, 2, Hole, Hole, Copy}[r.IntN(9)]
			pos := int64(0)
			if device >= 0 {
				n = min(n, p.Devices[device])
				pos = r.Int64N(p.Devices[device] - n + 1)
				if r.IntN(4) > 0 {
					pos -= pos % min(unit, 4096)
				}
			}
			p.add(n, device, pos)
		}
		if r.IntN(2) == 0 {
			p.add(1+r.Int64N(5000), 1, 0)
		}
		p.verify(t)
	}
}

// TestRefused: maps that are wrong, and those that are not worth it.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		size int64
		list []Extent
		want string
	}{
		{"behind the end of a device", 8192, []Extent{{0, 8192, 0, 4096}}, "outside"},
		{"before it", 4096, []Extent{{0, 4096, 0, -512}}, "outside"},
		{"no such device", 4096, []Extent{{0, 4096, 1, 0}}, "outside"},
		{"a gap", 8192, []Extent{{0, 512, 0, 0}, {1024, 7168, Hole, 0}}, "was expected"},
		{"too short", 8192, []Extent{{0, 4096, 0, 0}}, "extents up to 4096"},
		{"nothing", 0, nil, "scattered"},
		{"all compressed", 1 << 40, []Extent{{0, 1 << 40, Copy, 0}}, "scattered"},
		{"an odd place all along", 1 << 40, []Extent{{0, 1 << 40, 2, 3}}, "scattered"},
		{"a huge table", 1 << 50, []Extent{{0, 512, Hole, 0}, {512, 1<<50 - 512, 2, 0}}, "scattered"},
		{"an address out of reach", 1 << 46, []Extent{{0, 1 << 46, 2, 0}}, "scattered"},
	} {
		s := &Source{Size: c.size, Devices: []int64{8192 + 4095, 0, 1 << 60}, Each: func(yield func(Extent) bool) error {
			for _, e := range c.list {
				if !yield(e) {
					break
				}
			}
			return nil
		}}
		if _, err := NewPlan(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestLate: errors that come while the image is written.
func TestLate(t *testing.T) {
	p := newPicture(noise(rand.New(rand.NewPCG(3, 4)), 8192))
	p.add(4096, 0, 0)
	p.add(700, Copy, 0)
	plan, _ := p.write(t)
	p.Content = bytes.NewReader(p.content[:4200])
	if err := plan.WriteTo(new(memory)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("content cut short: %v", err)
	}
	p.Content = bytes.NewReader(p.content)
	p.extents[0].Device, p.extents[0].Pos = Copy, 0
	if err := plan.WriteTo(new(memory)); !errors.Is(err, errGrown) {
		t.Errorf("more to copy than before: %v", err)
	}
	p.extents = p.extents[:1]
	if err := plan.WriteTo(new(memory)); err == nil {
		t.Error("a map that lost its end")
	}
}
