package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vdfs/vdcore/vdtest"
)

// deepVDI compares 500 layers with one, both ours.
func (b *bench) deepVDI() error {
	contestHeader("vdi, 500 layers (peer: vdfs, 1 layer)")
	one, deep, err := b.vdiChains(500)
	if err != nil {
		return err
	}
	seq := func(path string) (float64, error) { return sequential(path, b.data) }
	rnd := func(path string) (float64, error) { return random(path, b.data, unix.O_DIRECT, 1) }
	for _, c := range []contest{
		{"mount", "/s", b.mountOnce(deep), b.mountOnce(one)},
		{"first read, 1 MiB at a time", "GB/s", b.onNewMount(deep, seq), b.onNewMount(one, seq)},
		{"random 4 KiB, O_DIRECT", "kIOPS", b.onNewMount(deep, rnd), b.onNewMount(one, rnd)},
	} {
		if err := b.row(c); err != nil {
			return err
		}
	}
	return nil
}

// onNewMount measures something of a disk that was not read before.
func (b *bench) onNewMount(img string, measure func(path string) (float64, error)) func() (float64, error) {
	return func() (float64, error) {
		if err := touchMemory(2 * b.data); err != nil {
			return 0, err
		}
		m, err := b.mountVDFS(img)
		if err != nil {
			return 0, err
		}
		v, err := measure(m.disk)
		return v, errors.Join(err, m.close())
	}
}

// emptyDisks looks at disks of 2 TiB that hold nothing.
func (b *bench) emptyDisks() error {
	contestHeader("empty disks of 2 TiB")
	small := filepath.Join(b.dir, "small.vmdk")
	if err := output(b.tool("qemu-img", "create", "-q", "-f", "vmdk", small, "1M")); err != nil {
		return err
	}
	for _, format := range []string{"vdi", "vmdk"} {
		img := filepath.Join(b.dir, "huge."+format)
		if err := output(b.tool("qemu-img", "create", "-q", "-f", format, img, "2T")); err != nil {
			return err
		}
		for _, c := range []contest{
			{format + ": mount (peer: vdfs, 1 MiB)", "/s", b.mountOnce(img), b.mountOnce(small)},
			{format + ": map (peer: qemu-img)", "/s",
				perSecond(func() error { return shell(b.vdfs, "map", "--json", img) }),
				perSecond(func() error { return output(b.tool("qemu-img", "map", "--output=json", img)) })},
		} {
			if err := b.row(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// vdiChains writes one disk twice: as one image, and as n layers which hold it
// between them, block by block in turn. Layer by layer with vdfs snapshot, as the
// chains of the table are made, would take minutes.
func (b *bench) vdiChains(n int) (one, deep string, err error) {
	r := rand.New(rand.NewPCG(2, 2))
	blocks := int(b.data / block)
	layers := make([]*vdtest.VDI, n)
	for i := range layers {
		v := &vdtest.VDI{Capacity: b.data, BlockSize: block, ID: vdtest.RandomUUID(r), Mod: vdtest.RandomUUID(r), Map: make([]uint32, blocks)}
		for k := range v.Map {
			v.Map[k] = vdtest.VDIFree
		}
		if i > 0 {
			v.Parent, v.ParentMod = layers[i-1].ID, layers[i-1].Mod
		}
		layers[i] = v
	}
	whole := &vdtest.VDI{Capacity: b.data, BlockSize: block, ID: vdtest.RandomUUID(r), Mod: vdtest.RandomUUID(r), Map: make([]uint32, blocks)}
	for k := range blocks {
		data := noise(r, block)
		v := layers[k%n]
		v.Map[k], v.Slots = uint32(len(v.Slots)), append(v.Slots, data)
		whole.Map[k], whole.Slots = uint32(k), append(whole.Slots, data)
	}
	dir := filepath.Join(b.dir, "deep")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	for i, v := range layers {
		deep = filepath.Join(dir, fmt.Sprintf("%03d.vdi", i))
		if err := os.WriteFile(deep, v.Bytes(), 0o644); err != nil {
			return "", "", err
		}
	}
	one = filepath.Join(b.dir, "one.vdi")
	return one, deep, os.WriteFile(one, whole.Bytes(), 0o644)
}
