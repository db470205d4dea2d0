package integration

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWriteFull: when the image's file system is full the writer is told at once,
// everything can still be read, and once there is space writing goes on.
func TestWriteFull(t *testing.T) {
	needRoot(t)
	needFUSE(t)
	needTool(t, "qemu-img")
	for _, format := range []string{"vdi", "vmdk", "raw"} {
		t.Run(format, func(t *testing.T) {
			small := t.TempDir()
			tool(t, "mount", "-t", "tmpfs", "-o", "size=12m", "none", small)
			t.Cleanup(func() { command(noContext{t}, nil, "umount", small) })
			m := newModel(18)
			clear(m.content)
			img := filepath.Join(small, "disk."+format)
			tool(t, "qemu-img", "create", "-q", "-f", format, img, "32M")
			ballast := filepath.Join(small, "ballast")
			fillUp(t, ballast, small, 6<<20)

			mnt := t.TempDir()
			must(t, "mount", "--rw", img, mnt)
			pid := daemon(t, mnt)
			disk := filepath.Join(mnt, "disk", "disk.raw")
			end := m.writeUntilFull(t, disk)
			m.content = m.content[:32<<20]
			if got, err := os.ReadFile(disk); err != nil || !bytes.Equal(got[:end], m.content[:end]) {
				t.Fatalf("what was written before the disk was full reads as something else (%v)", err)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			m.writeOn(t, disk, end)
			unmount(t, mnt, pid)
			m.asQEMU(t, img, format)
			must(t, "check", img)
		})
	}
}

// writeUntilFull fills the disk from its start and returns where that failed.
func (m *model) writeUntilFull(t testing.TB, disk string) int64 {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.content = make([]byte, 32<<20)
	p := make([]byte, 64<<10)
	for off := int64(0); off < int64(len(m.content)); off += int64(len(p)) {
		m.fill(p)
		n, err := f.WriteAt(p, off)
		copy(m.content[off:], p[:n])
		if err == nil {
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full at %d: %v, want ENOSPC", off, err)
		}
		return off
	}
	t.Fatal("12 MiB of space took 32")
	return 0
}

// writeOn writes where there was no space before, and syncs.
func (m *model) writeOn(t testing.TB, disk string, off int64) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1<<20)
	m.fill(p)
	copy(m.content[off:], p)
	_, err = f.WriteAt(p, off)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatalf("there is space again: %v", err)
	}
}
