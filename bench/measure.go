package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sequential reads n bytes in order, 1 MiB at a time, and returns GB/s.
func sequential(path string, n int64) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := aligned(block)
	began := time.Now()
	for off := int64(0); off < n; off += block {
		if _, err := f.ReadAt(buf, off); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds() / 1e9, nil
}

// randomTime is how long random reads go on.
const randomTime = time.Second

// random reads 4 KiB at random places within n bytes, as many at a time as depth
// says, each in a thread of its own, and returns thousands a second.
func random(path string, n int64, flags, depth int) (float64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|flags, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		return 0, err
	}
	var total atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, depth)
	began := time.Now()
	for i := range depth {
		wg.Go(func() {
			count, err := readRandomly(int(f.Fd()), n, rand.New(rand.NewPCG(rand.Uint64(), 3)), began.Add(randomTime))
			total.Add(count)
			errs[i] = err
		})
	}
	wg.Wait()
	return float64(total.Load()) / time.Since(began).Seconds() / 1e3, errors.Join(errs...)
}

// readRandomly is one thread of random; it returns how many reads it made.
func readRandomly(fd int, n int64, r *rand.Rand, until time.Time) (int64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const between = 16 // reads between two looks at the clock
	buf := aligned(4096)
	for count := int64(0); ; count += between {
		if time.Now().After(until) {
			return count, nil
		}
		for range between {
			got, err := unix.Pread(fd, buf, r.Int64N(n/4096)*4096)
			if err != nil {
				return count, err
			}
			if got != len(buf) {
				return count, io.ErrUnexpectedEOF
			}
		}
	}
}

// aligned returns n bytes at a page boundary, as O_DIRECT wants them.
func aligned(n int) []byte {
	buf := make([]byte, n+4096)
	skip := 4096 - int(uintptr(unsafe.Pointer(&buf[0]))%4096)
	return buf[skip : skip+n]
}

// touchMemory takes as much memory as what comes next may fill, and gives it back. The host
// of a virtual machine may take free memory away within seconds, and brings it back at
// less than a GB/s: who comes next would pay for that, or not, by who was there before.
func touchMemory(n int64) error {
	m, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("room for what is read: %w", err)
	}
	return unix.Munmap(m)
}

// throughLoop reads n bytes in order from a new loop device over a file.
func throughLoop(path string, n int64) (speed float64, err error) {
	if err := touchMemory(2 * n); err != nil {
		return 0, err
	}
	out, err := exec.Command("losetup", "--read-only", "--find", "--show", path).Output()
	if err != nil {
		return 0, fmt.Errorf("losetup: %w", err)
	}
	device := strings.TrimSpace(string(out))
	defer func() { err = errors.Join(err, shell("losetup", "--detach", device)) }()
	return sequential(device, n)
}

// copySparse is how many seconds cp takes to copy a file that is mostly holes.
func (b *bench) copySparse(path string) (float64, error) {
	to := filepath.Join(b.dir, "copy")
	if err := touchMemory(b.data); err != nil {
		return 0, err
	}
	began := time.Now()
	err := shell("cp", "--sparse=always", path, to)
	took := time.Since(began)
	return took.Seconds(), errors.Join(err, os.RemoveAll(to))
}

// convertToNothing is how fast qemu-img reads an image that holds n bytes of data.
func (b *bench) convertToNothing(img *image) (float64, error) {
	cmd := b.tool("qemu-img", "convert", "-n", "-f", img.format, "--target-image-opts", img.file,
		fmt.Sprintf("driver=null-co,size=%d", b.capacity()))
	began := time.Now()
	err := output(cmd)
	return float64(img.data) / time.Since(began).Seconds() / 1e9, err
}

// errWrong is what a file is that shows something else than its image holds.
var errWrong = errors.New("wrong data")

// sameAs compares a shown disk with the raw one, to the end.
func sameAs(path, flat string) error {
	shown, err := os.Open(path)
	if err != nil {
		return err
	}
	defer shown.Close()
	raw, err := os.Open(flat)
	if err != nil {
		return err
	}
	defer raw.Close()
	a, b := make([]byte, block), make([]byte, block)
	for off := int64(0); ; off += block {
		n, err := raw.ReadAt(b, off)
		if err != nil && err != io.EOF {
			return err
		}
		got, err := shown.ReadAt(a, off)
		if err != nil && err != io.EOF {
			return fmt.Errorf("at %d: %w", off, err)
		}
		if got != n || !bytes.Equal(a[:got], b[:n]) {
			return fmt.Errorf("%w in the MiB at %d", errWrong, off)
		}
		if n < block {
			return nil
		}
	}
}
