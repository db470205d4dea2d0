package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	randomWrites = 20000
	syncedWrites = 1000
)

// writing compares with qemu-storage-daemon's writable FUSE export, each on an
// image of its own made by qemu-img.
func (b *bench) writing() error {
	contestHeader("writing (peer: qemu-storage-daemon)")
	if b.tools["qemu-storage-daemon"] == nil {
		fmt.Println("qemu-storage-daemon is not installed")
		return nil
	}
	for _, format := range []string{"vdi", "vmdk"} {
		if err := b.growing(format); err != nil {
			return err
		}
		if err := b.overwriting(format); err != nil {
			return err
		}
	}
	return b.amplification()
}

// newVDFS makes an image and mounts it for writing.
func (b *bench) newVDFS(format string) (*mounted, error) {
	img, err := b.newImage("ours.", format)
	if err != nil {
		return nil, err
	}
	return b.mountVDFS(img, "--rw")
}

// newQSD is newVDFS for the peer.
func (b *bench) newQSD(format string) (*mounted, error) {
	img, err := b.newImage("peer.", format)
	if err != nil {
		return nil, err
	}
	return b.mountQSD(img, format, true)
}

func (b *bench) newImage(name, format string) (string, error) {
	img := filepath.Join(b.dir, name+format)
	if err := os.RemoveAll(img); err != nil {
		return "", err
	}
	return img, output(b.tool("qemu-img", "create", "-q", "-f", format, img, fmt.Sprint(b.data)))
}

// growing writes a new image full, in order.
func (b *bench) growing(format string) error {
	for _, sync := range []bool{false, true} {
		label := format + ": sequential 1 MiB, unallocated"
		if sync {
			label += ", fsync"
		}
		fill := func(mount func(string) (*mounted, error)) func() (float64, error) {
			return func() (float64, error) {
				m, err := mount(format)
				if err != nil {
					return 0, err
				}
				v, err := writeAll(m.disk, b.data, sync)
				return v, errors.Join(err, m.close())
			}
		}
		if err := b.row(contest{label, "GB/s", fill(b.newVDFS), fill(b.newQSD)}); err != nil {
			return err
		}
	}
	return nil
}

// overwriting writes to images that are full already.
func (b *bench) overwriting(format string) error {
	ours, err := b.newVDFS(format)
	if err != nil {
		return err
	}
	defer ours.close()
	peer, err := b.newQSD(format)
	if err != nil {
		return err
	}
	defer peer.close()
	for _, m := range []*mounted{ours, peer} {
		if _, err := writeAll(m.disk, b.data, true); err != nil {
			return err
		}
	}
	both := func(label, unit string, fn func(m *mounted) (float64, error)) error {
		return b.row(contest{format + ": " + label, unit,
			func() (float64, error) { return fn(ours) }, func() (float64, error) { return fn(peer) }})
	}
	if err := both("sequential 1 MiB, overwrite", "GB/s", func(m *mounted) (float64, error) { return writeAll(m.disk, b.data, false) }); err != nil {
		return err
	}
	if err := both("random 4 KiB, overwrite", "kIOPS", func(m *mounted) (float64, error) { return writeRandom(m.disk, b.data, randomWrites, false) }); err != nil {
		return err
	}
	return both("random 4 KiB, fsync each", "kIOPS", func(m *mounted) (float64, error) { return writeRandom(m.disk, b.data, syncedWrites, true) })
}

// writeAll writes n bytes in order, 1 MiB at a time, and returns GB/s. What was
// written before is on disk by then, so that it is not paid for here.
func writeAll(path string, n int64, sync bool) (float64, error) {
	syscall.Sync()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := noise(rand.New(rand.NewPCG(7, 7)), 1<<20)
	if err := touchMemory(2 * n); err != nil {
		return 0, err
	}
	began := time.Now()
	for off := int64(0); off < n; off += int64(len(buf)) {
		if _, err := f.WriteAt(buf, off); err != nil {
			return 0, err
		}
	}
	if sync {
		err = f.Sync()
	}
	return float64(n) / time.Since(began).Seconds() / 1e9, err
}

// writeRandom writes 4 KiB at random places, one after the other, and returns
// thousands a second.
func writeRandom(path string, n int64, count int, sync bool) (float64, error) {
	syscall.Sync()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(9, 9))
	buf := noise(r, 4096)
	began := time.Now()
	for range count {
		if _, err := f.WriteAt(buf, r.Int64N(n/4096)*4096); err != nil {
			return 0, err
		}
		if !sync {
			continue
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(count) / time.Since(began).Seconds() / 1e3, nil
}

// amplification is how many bytes of the overlay's file a guest byte costs when
// 4 KiB are written at random places over a full parent, and synced once.
func (b *bench) amplification() error {
	flat, err := b.randomRaw()
	if err != nil {
		return err
	}
	for _, format := range []string{"vdi", "vmdk"} {
		base := filepath.Join(b.dir, "full."+format)
		if err := output(b.tool("qemu-img", "convert", "-O", format, flat, base)); err != nil {
			return err
		}
		cost, err := b.overlayCost(base, filepath.Join(b.dir, "over."+format))
		if err != nil {
			return err
		}
		fmt.Printf("%-46s %9.4g bytes of the file a guest byte (%d writes)\n", format+": random 4 KiB, fresh overlay", cost, overlayWrites)
	}
	return nil
}

const overlayWrites = 256

func (b *bench) overlayCost(base, over string) (float64, error) {
	m, err := b.mountVDFS(base, "--overlay", over)
	if err != nil {
		return 0, err
	}
	_, err = writeRandom(m.disk, b.data, overlayWrites, false)
	if err := errors.Join(err, m.close()); err != nil {
		return 0, err
	}
	var st syscall.Stat_t
	if err := syscall.Stat(over, &st); err != nil {
		return 0, err
	}
	return float64(st.Blocks) * 512 / (overlayWrites * 4096), os.Remove(over)
}
