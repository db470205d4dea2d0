package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const block = 1 << 20

// image is a disk that the contenders show.
type image struct {
	name   string
	file   string   // the topmost layer
	layers []string // all of its files, which are kept in the page cache
	format string   // as QEMU names it
	flat   string   // what it must read as
	data   int64    // how much of its beginning is read
	rows   []row
}

// Names of images the demands refer to.
const (
	vdiOne, vdiDeep   = "vdi", "vdi, 64 layers"
	vmdkOne, vmdkDeep = "vmdk", "vmdk, 64 layers"
	streamed          = "vmdk, streamOptimized"
)

// capacity is the size of the disk: a quarter of it holds nothing.
func (b *bench) capacity() int64 { return b.data * 4 / 3 / block * block }

// images makes everything that the table is about.
func (b *bench) images() ([]*image, error) {
	flat, err := b.randomRaw()
	if err != nil {
		return nil, err
	}
	full := func(name, format string, layers ...string) *image {
		return &image{name, layers[len(layers)-1], layers, format, flat, b.data, readRows}
	}
	all := []*image{full("raw", "raw", flat)}
	for _, format := range []string{"vdi", "vmdk"} {
		one, err := b.convert(flat, "disk."+format, format)
		if err != nil {
			return nil, err
		}
		all = append(all, full(format, format, one))
		for _, n := range []int{8, 64} {
			layers, err := b.chain(format, flat, n)
			if err != nil {
				return nil, err
			}
			all = append(all, full(fmt.Sprintf("%s, %d layers", format, n), format, layers...))
		}
	}
	stream, err := b.convert(flat, "stream.vmdk", "vmdk", "-o", "subformat=streamOptimized")
	if err != nil {
		return nil, err
	}
	all = append(all, full(streamed, "vmdk", stream))
	all[len(all)-1].rows = append(append([]row{}, readRows...), rowConvert)
	return b.mostlyEmpty(all)
}

// mostlyEmpty appends large disks with a little data here and there.
func (b *bench) mostlyEmpty(all []*image) ([]*image, error) {
	flat := filepath.Join(b.dir, "sparse.raw")
	size := 4 * b.capacity()
	f, err := os.Create(flat)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(4, 4))
	for off := int64(0); off < size; off += size / 64 {
		if _, err := f.WriteAt(noise(r, block), off/block*block); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(writeMBR(f, size), f.Truncate(size), f.Sync()); err != nil {
		return nil, err
	}
	for _, format := range []string{"vdi", "vmdk"} {
		img, err := b.convert(flat, "sparse."+format, format)
		if err != nil {
			return nil, err
		}
		all = append(all, &image{format + ", mostly empty", img, []string{img}, format, flat, size, sparseRows})
	}
	return all, nil
}

// convert makes an image of a raw disk.
func (b *bench) convert(flat, name, format string, options ...string) (string, error) {
	progress("making %s", name)
	img := filepath.Join(b.dir, name)
	args := append([]string{"convert", "-f", "raw", "-O", format}, options...)
	return img, output(b.tool("qemu-img", append(args, flat, img)...))
}

// chain makes n layers which hold the disk between them, block by block in turn.
func (b *bench) chain(format, flat string, n int) ([]string, error) {
	progress("making %s, %d layers", format, n)
	dir := filepath.Join(b.dir, fmt.Sprintf("%s%d", format, n))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	var layers []string
	for i := range n {
		top := filepath.Join(dir, fmt.Sprintf("%02d.%s", i, format))
		var err error
		if i == 0 {
			err = output(b.tool("qemu-img", "create", "-q", "-f", format, top, fmt.Sprint(b.capacity())))
		} else {
			err = shell(b.vdfs, "snapshot", layers[i-1], top)
		}
		if err != nil {
			return nil, err
		}
		if err := b.fill(top, flat, i, n); err != nil {
			return nil, err
		}
		layers = append(layers, top)
	}
	return layers, nil
}

// fill writes every n-th block, from the i-th on, to the topmost layer of a chain.
func (b *bench) fill(top, flat string, i, n int) (err error) {
	from, err := os.Open(flat)
	if err != nil {
		return err
	}
	defer from.Close()
	m, err := b.mountVDFS(top, "--rw")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	to, err := os.OpenFile(m.disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	buf := make([]byte, block)
	for off := int64(i) * block; off < b.data; off += int64(n) * block {
		if _, err := from.ReadAt(buf, off); err != nil {
			return err
		}
		if _, err := to.WriteAt(buf, off); err != nil {
			return err
		}
	}
	return nil
}

// randomRaw writes a raw disk: random data, then a third as much of nothing.
func (b *bench) randomRaw() (string, error) {
	path := filepath.Join(b.dir, "flat.raw")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(1, 1))
	for off := int64(0); off < b.data; off += block {
		if _, err := f.WriteAt(noise(r, block), off); err != nil {
			return "", err
		}
	}
	size := b.capacity()
	return path, errors.Join(writeMBR(f, size), f.Truncate(size), f.Sync())
}

// writeMBR writes a partition table with one entry: vboximg-mount refuses a disk
// without one.
func writeMBR(f io.WriterAt, size int64) error {
	const first = 2048
	mbr := make([]byte, 512)
	entry := mbr[446:]
	entry[4] = 0x83
	binary.LittleEndian.PutUint32(entry[8:], first)
	binary.LittleEndian.PutUint32(entry[12:], uint32(size/512)-first)
	mbr[510], mbr[511] = 0x55, 0xaa
	_, err := f.WriteAt(mbr, 0)
	return err
}

func noise(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
	return p
}

// warm reads files, so that they are in the page cache.
func warm(files []string) error {
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
