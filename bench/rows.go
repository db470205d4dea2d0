package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"vdfs/vdcore/vdtest"
)

// requestPath compares the FUSE request path with qemu-storage-daemon's FUSE
// export of the same image.
func (b *bench) requestPath() error {
	if _, err := exec.LookPath("qemu-storage-daemon"); err != nil {
		fmt.Println("qemu-storage-daemon is not installed: its rows are skipped")
		return nil
	}
	flat, err := b.randomRaw()
	if err != nil {
		return err
	}
	for _, format := range []string{"vdi", "vmdk"} {
		img := filepath.Join(b.dir, "disk."+format)
		if err := shell("qemu-img", "convert", "-O", format, flat, img); err != nil {
			return err
		}
		if err := b.against(fmt.Sprintf("%s, 1 layer", format), img, format); err != nil {
			return err
		}
	}
	top, err := b.qemuChain(filepath.Join(b.dir, "disk.vmdk"), 32)
	if err != nil {
		return err
	}
	return b.against("vmdk, 32 layers", top, "vmdk")
}

// against prints the rows of one image.
func (b *bench) against(label, img, format string) error {
	ours, err := b.mountVDFS(img)
	if err != nil {
		return err
	}
	defer ours.close()
	peer, err := b.mountQSD(img, format, false)
	if err != nil {
		return err
	}
	defer peer.close()
	return b.both(label, ours, peer)
}

// both prints the rows of two mounts that show the same disk.
func (b *bench) both(label string, ours, peer *mounted) error {
	seq := func(m *mounted) func() (float64, error) {
		return func() (float64, error) { return sequential(m.disk, b.data) }
	}
	rnd := func(m *mounted, direct bool) func() (float64, error) {
		return func() (float64, error) { return random(m.disk, b.data, direct) }
	}
	for _, c := range []contest{
		{label + ": sequential 1 MiB, first read", "GB/s", seq(ours), seq(peer)},
		{label + ": random 4 KiB, first read", "kIOPS", rnd(ours, false), rnd(peer, false)},
		{label + ": random 4 KiB, O_DIRECT", "kIOPS", rnd(ours, true), rnd(peer, true)},
	} {
		if err := b.row(c); err != nil {
			return err
		}
	}
	return nil
}

// deepVDI compares 500 layers with one, both ours.
func (b *bench) deepVDI() error {
	one, deep, err := b.vdiChains(500)
	if err != nil {
		return err
	}
	if err := b.row(contest{"mount and umount of 500 layers (peer: 1)", "/s", b.mountOnce(deep), b.mountOnce(one)}); err != nil {
		return err
	}
	a, err := b.mountVDFS(deep)
	if err != nil {
		return err
	}
	defer a.close()
	z, err := b.mountVDFS(one)
	if err != nil {
		return err
	}
	defer z.close()
	return b.both("vdi, 500 layers (peer: 1 layer)", a, z)
}

// emptyDisks looks at disks of 2 TiB that hold nothing.
func (b *bench) emptyDisks() error {
	small := filepath.Join(b.dir, "small.vmdk")
	if err := shell("qemu-img", "create", "-q", "-f", "vmdk", small, "1M"); err != nil {
		return err
	}
	for _, format := range []string{"vdi", "vmdk"} {
		img := filepath.Join(b.dir, "huge."+format)
		if err := shell("qemu-img", "create", "-q", "-f", format, img, "2T"); err != nil {
			return err
		}
		for _, c := range []contest{
			{format + ", 2 TiB empty: mount (peer: 1 MiB)", "/s", b.mountOnce(img), b.mountOnce(small)},
			{format + ", 2 TiB empty: map (peer: qemu-img)", "/s",
				perSecond(func() error { return shell(b.vdfs, "map", "--json", img) }),
				perSecond(func() error { return shell("qemu-img", "map", "--output=json", img) })},
		} {
			if err := b.row(c); err != nil {
				return err
			}
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
	for off := int64(0); off < b.data; off += 1 << 20 {
		if _, err := f.WriteAt(noise(r, 1<<20), off); err != nil {
			return "", err
		}
	}
	return path, f.Truncate(b.data * 4 / 3)
}

func noise(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
	return p
}

// qemuChain puts n-1 overlays over base, each with some clusters of its own.
func (b *bench) qemuChain(base string, n int) (string, error) {
	below := base
	for i := 1; i < n; i++ {
		top := filepath.Join(b.dir, fmt.Sprintf("over%02d.vmdk", i))
		if err := shell("qemu-img", "create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", below, top); err != nil {
			return "", err
		}
		write := fmt.Sprintf("write -q -P %d %dM 1M", i, int64(i)*(b.data>>20)/int64(n))
		if err := shell("qemu-io", "-f", "vmdk", "-c", write, top); err != nil {
			return "", err
		}
		below = top
	}
	return below, nil
}

// vdiChains writes one disk twice: as one image, and as n layers which hold it
// between them, block by block in turn.
func (b *bench) vdiChains(n int) (one, deep string, err error) {
	const block = 1 << 20
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
