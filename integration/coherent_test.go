package integration

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCoherent: one disk open three ways at once, for reading and writing through
// the page cache, mapped, and for writing only, which goes past the cache. Each sees
// what the others have written.
func TestCoherent(t *testing.T) {
	needFUSE(t)
	needTool(t, "qemu-img")
	m := newModel(19)
	img := m.image(t, t.TempDir(), "disk.vdi", "vdi")
	mnt := mount(t, "--rw", img)
	disk := filepath.Join(mnt, "disk", "disk.raw")
	cached, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	past, perr := os.OpenFile(disk, os.O_WRONLY, 0)
	mapped, merr := unix.Mmap(int(cached.Fd()), 0, len(m.content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err := errors.Join(perr, merr); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		off := m.IntN(len(m.content) - 70000)
		p := make([]byte, 1+m.IntN(1<<m.IntN(17)))
		want := m.content[off : off+len(p)]
		kind := m.IntN(5)
		if kind < 3 {
			m.fill(p)
			copy(want, p)
		}
		switch kind {
		case 0:
			_, err = past.WriteAt(p, int64(off))
		case 1:
			_, err = cached.WriteAt(p, int64(off))
		case 2:
			copy(mapped[off:], p)
		case 3:
			_, err = cached.ReadAt(p, int64(off))
		case 4:
			copy(p, mapped[off:])
		}
		if err != nil || !bytes.Equal(p, want) {
			t.Fatalf("%d bytes at %d, by way %d: %v, or other bytes", len(p), off, kind, err)
		}
	}
	if err := errors.Join(unix.Munmap(mapped), cached.Sync(), cached.Close(), past.Close()); err != nil {
		t.Fatal(err)
	}
	m.equals(t, disk)
}
