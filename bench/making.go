package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// streamShare is the part of the data that goes to streamOptimized: qemu-img packs it
// in one thread, which takes a minute a gigabyte.
const streamShare = 4

// qemuOptions are the ways of qemu-img convert worth trying; the fastest counts.
var qemuOptions = [][]string{nil, {"-W", "-m", "16"}, {"-T", "none", "-t", "none"}, {"-W", "-m", "16", "-t", "none"}}

// conversion is one pair of source and target.
type conversion struct {
	name         string
	source       string
	from, format string   // as QEMU names them
	ours         []string // options of vdfs
	options      []string // of qemu-img's format
}

// converting compares with qemu-img convert, once as each returns without waiting for the
// disk, which vdfs does if it is told to and qemu-img does of itself, and once with all of
// it on disk.
func (b *bench) converting() error {
	contestHeader("converting (peer: qemu-img convert, the fastest of its options)")
	fmt.Println("without sync: vdfs convert --no-sync; with sync: vdfs as it is, both until all is on disk")
	list, err := b.conversions()
	if err != nil {
		return err
	}
	for _, c := range list {
		for _, synced := range []bool{false, true} {
			if err := b.convertRow(c, synced); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) conversions() ([]conversion, error) {
	flat, err := b.randomRaw()
	if err != nil {
		return nil, err
	}
	vdi, err := b.convert(flat, "disk.vdi", "vdi")
	if err != nil {
		return nil, err
	}
	vmdk, err := b.convert(flat, "disk.vmdk", "vmdk")
	if err != nil {
		return nil, err
	}
	part := filepath.Join(b.dir, "part.raw")
	if err := shell("cp", "--sparse=always", flat, part); err != nil {
		return nil, err
	}
	return []conversion{
		{"VDI to raw", vdi, "vdi", "raw", []string{"--to", "raw"}, nil},
		{"VMDK to raw", vmdk, "vmdk", "raw", []string{"--to", "raw"}, nil},
		{"raw to VDI", flat, "raw", "vdi", []string{"--to", "vdi"}, nil},
		{"raw to VMDK", flat, "raw", "vmdk", []string{"--to", "vmdk"}, nil},
		{"raw to streamOptimized", part, "raw", "vmdk", []string{"--to", "vmdk", "--variant", "stream"}, []string{"-o", "subformat=streamOptimized"}},
	}, os.Truncate(part, b.data/streamShare)
}

// convertRow is a contest with several ways of the peer. They take turns to begin a
// round, in one order and in the other: each finds the disk as the one before left it.
func (b *bench) convertRow(c conversion, synced bool) error {
	ways := []func(to string) error{func(to string) error { return b.convertOurs(c, synced, to) }}
	for _, options := range qemuOptions {
		ways = append(ways, func(to string) error {
			args := slices.Concat([]string{"convert", "-f", c.from, "-O", c.format}, options, c.options)
			return output(b.tool("qemu-img", append(args, c.source, to)...))
		})
	}
	speeds := make([][]float64, len(ways))
	for round := range b.rounds {
		for turn := range ways {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			i := (round + turn) % len(ways)
			if round%2 == 1 {
				i = len(ways) - 1 - i
			}
			v, err := b.timeMaking(synced, ways[i])
			if err != nil {
				return err
			}
			speeds[i] = append(speeds[i], v)
		}
	}
	label := c.name
	if synced {
		label += ", and sync"
	}
	best := slices.MaxFunc(speeds[1:], func(x, y []float64) int { return cmp.Compare(median(x), median(y)) })
	fmt.Printf("%-46s %9.4g %-4s %9.4g %-4s %7.2fx\n", label, median(speeds[0]), "/s", median(best), "/s", median(speeds[0])/median(best))
	return nil
}

func (b *bench) convertOurs(c conversion, synced bool, to string) error {
	args := append([]string{"-q", "convert"}, c.ours...)
	if !synced {
		args = append(args, "--no-sync")
	}
	return shell(b.vdfs, append(args, c.source, to)...)
}

// timeMaking has something make a file that is not there, and returns how often it
// could a second.
func (b *bench) timeMaking(synced bool, convert func(to string) error) (float64, error) {
	to := filepath.Join(b.dir, "made")
	if err := os.RemoveAll(to); err != nil {
		return 0, err
	}
	syscall.Sync()
	if err := touchMemory(2 * b.data); err != nil {
		return 0, err
	}
	began := time.Now()
	err := convert(to)
	if synced {
		syscall.Sync()
	}
	return 1 / time.Since(began).Seconds(), errors.Join(err, os.RemoveAll(to))
}

// compacting compares with VBoxManage modifymedium --compact, on a VDI of which every
// second block holds zeros.
func (b *bench) compacting() error {
	contestHeader("compacting a VDI (peer: VBoxManage)")
	if b.tools["VBoxManage"] == nil {
		fmt.Println("VBoxManage is not installed")
		return nil
	}
	img, err := b.halfZero()
	if err != nil {
		return err
	}
	for _, synced := range []bool{false, true} {
		label := "every second block zero"
		if synced {
			label += ", and sync"
		}
		on := func(compact func(path string) error) func() (float64, error) {
			return func() (float64, error) { return b.timeCompact(img, synced, compact) }
		}
		err := b.row(contest{label, "/s",
			on(func(path string) error { return shell(b.vdfs, "-q", "compact", path) }),
			on(func(path string) error {
				return output(b.tool("VBoxManage", "-q", "modifymedium", "disk", path, "--compact"))
			})})
		if err != nil {
			return err
		}
	}
	return nil
}

// halfZero makes a VDI that holds all blocks of a disk, half of them zeros.
func (b *bench) halfZero() (string, error) {
	flat, err := b.randomRaw()
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(flat, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for off := int64(block); off < b.data; off += 2 * block {
		if _, err := f.WriteAt(make([]byte, block), off); err != nil {
			return "", err
		}
	}
	img := filepath.Join(b.dir, "half.vdi")
	// -S 0 has qemu-img write zeros as data.
	return img, output(b.tool("qemu-img", "convert", "-S", "0", "-f", "raw", "-O", "vdi", flat, img))
}

// timeCompact compacts a copy and returns how often that could be done in a second.
// VBoxManage is asked something before: its
// server stays for some seconds, and the time it takes to start should not count.
func (b *bench) timeCompact(img string, synced bool, compact func(path string) error) (float64, error) {
	to := filepath.Join(b.dir, "compacted.vdi")
	if err := shell("cp", "--reflink=never", img, to); err != nil {
		return 0, err
	}
	if err := output(b.tool("VBoxManage", "-q", "list", "hdds")); err != nil {
		return 0, err
	}
	syscall.Sync()
	if err := touchMemory(2 * b.data); err != nil {
		return 0, err
	}
	began := time.Now()
	err := compact(to)
	if synced {
		syscall.Sync()
	}
	return 1 / time.Since(began).Seconds(), errors.Join(err, os.Remove(to))
}
