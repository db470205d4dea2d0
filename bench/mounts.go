package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mounted is a disk shown as a file by one of the tools.
type mounted struct {
	disk  string
	close func() error
}

func (b *bench) mountVDFS(img string, options ...string) (*mounted, error) {
	mnt, err := os.MkdirTemp(b.dir, "mnt-")
	if err != nil {
		return nil, err
	}
	if err := shell(b.vdfs, append(append([]string{"mount"}, options...), img, mnt)...); err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(img), filepath.Ext(img))
	return &mounted{filepath.Join(mnt, name, "disk.raw"), func() error { return shell(b.vdfs, "umount", mnt) }}, nil
}

// mountOnce is how often a second an image can be mounted and taken down.
func (b *bench) mountOnce(img string) func() (float64, error) {
	return func() (float64, error) {
		began := time.Now()
		m, err := b.mountVDFS(img)
		took := time.Since(began)
		if err != nil {
			return 0, err
		}
		return 1 / took.Seconds(), m.close()
	}
}

// mountQSD exports an image through qemu-storage-daemon's FUSE export.
func (b *bench) mountQSD(img, format string, writable bool) (*mounted, error) {
	readOnly, export := "on", "off"
	if writable {
		readOnly, export = "off", "on"
	}
	at := filepath.Join(b.dir, "qsd.raw")
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		return nil, err
	}
	pid := filepath.Join(b.dir, "qsd.pid")
	cmd := exec.Command("qemu-storage-daemon", "--daemonize", "--pidfile", pid,
		"--blockdev", fmt.Sprintf("driver=%s,node-name=disk,read-only=%s,file.driver=file,file.filename=%s", format, readOnly, img),
		"--export", fmt.Sprintf("type=fuse,id=e,node-name=disk,mountpoint=%s,writable=%s", at, export))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("qemu-storage-daemon: %w: %s", err, out)
	}
	return &mounted{at, func() error {
		b, err := os.ReadFile(pid)
		if err != nil {
			return err
		}
		var n int
		if _, err := fmt.Sscan(string(b), &n); err != nil {
			return err
		}
		if err := syscall.Kill(n, syscall.SIGTERM); err != nil {
			return err
		}
		for syscall.Kill(n, 0) == nil { // not our child: there is nothing to wait on
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	}}, nil
}

// openCold opens a shown disk with nothing of it in the page cache; the image
// itself stays cached.
func openCold(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|flags, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sequential reads n bytes in order, 1 MiB at a time, and returns GB/s.
func sequential(path string, n int64) (float64, error) {
	f, err := openCold(path, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	began := time.Now()
	for off := int64(0); off < n; off += int64(len(buf)) {
		if _, err := f.ReadAt(buf, off); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(began).Seconds() / 1e9, nil
}

const randomReads = 20000

// random reads 4 KiB at random places within n bytes, one after the other, and
// returns thousands a second.
func random(path string, n int64, direct bool) (float64, error) {
	flags := 0
	if direct {
		flags = unix.O_DIRECT
	}
	f, err := openCold(path, flags)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		return 0, err
	}
	buf := aligned(4096)
	r := rand.New(rand.NewPCG(3, 3))
	began := time.Now()
	for range randomReads {
		if _, err := f.ReadAt(buf, r.Int64N(n/4096)*4096); err != nil {
			return 0, err
		}
	}
	return randomReads / time.Since(began).Seconds() / 1e3, nil
}

// aligned returns n bytes at a page boundary, as O_DIRECT wants them.
func aligned(n int) []byte {
	buf := make([]byte, n+4096)
	skip := 4096 - int(uintptr(unsafe.Pointer(&buf[0]))%4096)
	return buf[skip : skip+n]
}
