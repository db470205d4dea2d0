package storage

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// counts skips where the file system does not count writers as unwritten needs it.
func counts(t *testing.T, path string) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(counting, int64(st.Type)) {
		t.Skipf("SKIP: the file system of %s (type %x) is none that counts writers", path, st.Type)
	}
}

// TestUnwritten: whoever may write to a file is noticed without looking for processes,
// the one included that only has it mapped.
func TestUnwritten(t *testing.T) {
	dir, o := host(t)
	p := filepath.Join(dir, "vm/disk.vdi")
	counts(t, p)
	f, err := o.Open(p, ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	expect := func(what string, want bool) {
		t.Helper()
		if got := unwritten(f); got != want {
			t.Errorf("%s: unwritten is %t", what, got)
		}
	}
	expect("nobody else", true)
	reader, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	expect("a reader", true)
	writer, err := os.OpenFile(p, os.O_RDWR|unix.O_NONBLOCK, 0) // fails if the lease were kept
	if err != nil {
		t.Fatal(err)
	}
	expect("a writer", false)
	page, err := unix.Mmap(int(writer.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err := errors.Join(err, writer.Close()); err != nil {
		t.Fatal(err)
	}
	expect("a mapping", false)
	if err := unix.Munmap(page); err != nil {
		t.Fatal(err)
	}
	expect("nobody any more", true)
	proc, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	if unwritten(&osFile{f: proc}) {
		t.Error("a file of a file system that is not listed is said to be unwritten")
	}
}

// TestLeased: a file is opened for writing when who has a lease on it gives that back,
// which the kernel asks for, and is locked if not.
func TestLeased(t *testing.T) {
	dir, o := host(t)
	p := filepath.Join(dir, "vm/disk.vdi")
	counts(t, p)
	holder, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	lease := func(kind int) {
		if _, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, kind); err != nil {
			t.Error(err)
		}
	}
	asked := make(chan os.Signal, 16)
	signal.Notify(asked, unix.SIGIO)
	defer signal.Stop(asked)
	lease(unix.F_RDLCK)
	if _, err := o.Open(p, ReadWrite); !errors.Is(err, ErrLocked) {
		t.Errorf("a lease that is kept: %v, want %q", err, ErrLocked)
	}
	<-asked
	lease(unix.F_UNLCK)

	lease(unix.F_RDLCK)
	given := make(chan struct{})
	go func() {
		<-asked
		lease(unix.F_UNLCK)
		close(given)
	}()
	f, err := o.Open(p, ReadWrite)
	<-given
	if err != nil {
		t.Fatalf("a lease that is given back: %v", err)
	}
	f.Close()
}
