package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// host makes a folder tree with the image in vm/, and the FS confined to it.
func host(t *testing.T, search ...string) (dir string, o *OS) {
	t.Helper()
	dir, err := Resolve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "up.vdi", "up")
	write(t, dir, "vm/disk.vdi", "disk")
	write(t, dir, "vm/Snapshots/s.vdi", "snap")
	write(t, dir, "other/far.vdi", "far")
	for i := range search {
		search[i] = filepath.Join(dir, search[i])
	}
	o, err = NewOS(filepath.Join(dir, "vm/disk.vdi"), search...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return dir, o
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(o FS, path string) (string, error) {
	f, err := o.Open(path, ReadOnly)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	b := make([]byte, st.Size)
	return string(b), errors.Join(ReadFull(f, b, 0), nil)
}

// outsideDir is a folder beside, not below, the one above the image.
func outsideDir(t *testing.T) string {
	dir, err := Resolve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "secret", "secret")
	return dir
}

func TestConfined(t *testing.T) {
	dir, o := host(t)
	out := outsideDir(t)
	for _, link := range []struct{ to, name string }{
		{filepath.Join(out, "secret"), "vm/abs.vdi"},
		{"../../" + filepath.Base(filepath.Dir(out)) + "/" + filepath.Base(out) + "/secret", "vm/rel.vdi"},
		{out, "vm/dir"},
		{"../up.vdi", "vm/inside.vdi"},
		{"/dev/null", "vm/null.vdi"},
	} {
		if err := os.Symlink(link.to, filepath.Join(dir, link.name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "vm/pipe.vdi"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"vm/disk.vdi": nil, "up.vdi": nil, "vm/Snapshots/s.vdi": nil, "vm/inside.vdi": nil,
		"vm/none.vdi": fs.ErrNotExist, "vm": ErrNotRegular, "vm/pipe.vdi": ErrNotRegular,
		"vm/abs.vdi": ErrOutside, "vm/rel.vdi": ErrOutside, "vm/dir/secret": ErrOutside, "vm/null.vdi": ErrOutside,
		"../" + filepath.Base(out) + "/secret": ErrOutside, "vm/../../../../../../etc/passwd": ErrOutside,
	} {
		if _, err := read(o, filepath.Join(dir, name)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	for _, p := range []string{"/etc/passwd", "/dev/zero", filepath.Join(out, "secret")} {
		if _, err := o.Open(p, ReadOnly); !errors.Is(err, ErrOutside) || !strings.Contains(err.Error(), "--search") {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, p := range []string{"relative.vdi", dir + "/vm/nul\x00.vdi"} {
		if _, err := o.Open(p, ReadOnly); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestBelow(t *testing.T) {
	dir, o := host(t, "other")
	vm := o.Below(filepath.Join(dir, "vm"))
	snaps := o.Below(filepath.Join(dir, "vm/Snapshots"))
	for _, c := range []struct {
		fs   FS
		name string
		want error
	}{
		{vm, "vm/disk.vdi", nil}, {vm, "vm/Snapshots/s.vdi", nil}, {vm, "up.vdi", ErrOutside}, {vm, "other/far.vdi", nil},
		{snaps, "vm/Snapshots/s.vdi", nil}, {snaps, "vm/disk.vdi", ErrOutside}, {snaps, "other/far.vdi", nil},
		{o.Below("/etc"), "/etc/passwd", ErrOutside},
	} {
		p := c.name
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		if _, err := read(c.fs, p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestList(t *testing.T) {
	dir, o := host(t)
	if err := os.Symlink("disk.vdi", filepath.Join(dir, "vm/link.vdi")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"vm": {"disk.vdi", "link.vdi"}, "vm/Snapshots": {"s.vdi"}, "vm/none": nil,
	} {
		if got, err := o.List(filepath.Join(dir, name)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	if _, err := o.List("/etc"); !errors.Is(err, ErrOutside) {
		t.Errorf("/etc: %v", err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// TestParking: many files are open, few hold a descriptor, all can be read from
// many goroutines, and pinned ones keep theirs.
func TestParking(t *testing.T) {
	dir, o := host(t)
	const n = 4 * maxIdle
	before := descriptors(t)
	files := make([]File, n)
	for i := range files {
		name := fmt.Sprintf("vm/%03d.vdi", i)
		write(t, dir, name, fmt.Sprintf("file %03d", i))
		f, err := o.Open(filepath.Join(dir, name), ReadOnly)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	fd, release, err := files[0].Pin()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := range n {
				i = (i*7 + k*31) % n
				b := make([]byte, 8)
				if err := ReadFull(files[i], b, 0); err != nil || string(b) != fmt.Sprintf("file %03d", i) {
					t.Errorf("file %d: %q, %v", i, b, err)
				}
			}
		})
	}
	wg.Wait()
	if held := descriptors(t) - before; held > maxIdle+8 {
		t.Errorf("%d descriptors held for %d files", held, n)
	}
	b := make([]byte, 8)
	if _, err := unix.Pread(fd, b, 0); err != nil || string(b) != "file 000" {
		t.Errorf("the pinned descriptor reads %q, %v", b, err)
	}
	release()
	release() // twice is once
}

// TestReplaced: a parked file whose name now leads to another file is refused.
func TestReplaced(t *testing.T) {
	dir, o := host(t)
	f, err := o.Open(filepath.Join(dir, "vm/disk.vdi"), ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.(*osFile).park()
	write(t, dir, "vm/new", "evil")
	if err := os.Rename(filepath.Join(dir, "vm/new"), filepath.Join(dir, "vm/disk.vdi")); err != nil {
		t.Fatal(err)
	}
	if err := ReadFull(f, make([]byte, 4), 0); !errors.Is(err, ErrChanged) {
		t.Errorf("read of a replaced file: %v", err)
	}
}

// TestAccessTime: reading moves no time stamp, whatever the mount options, as long
// as O_NOATIME is allowed, which it is for one's own files.
func TestAccessTime(t *testing.T) {
	dir, o := host(t)
	p := filepath.Join(dir, "vm/disk.vdi")
	old := []unix.Timeval{{Sec: 1000}, {Sec: 2000}} // relatime would update such an atime
	if err := unix.Utimes(p, old); err != nil {
		t.Fatal(err)
	}
	if _, err := read(o, p); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	if at := st.Sys().(*syscall.Stat_t).Atim.Sec; at != 1000 {
		t.Errorf("access time moved to %d", at)
	}
}

func TestWriting(t *testing.T) {
	dir, o := host(t)
	p := filepath.Join(dir, "vm/new.vdi")
	f, err := o.Open(p, Create)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := o.Open(p, Create); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created twice: %v", err)
	}
	data := bytes.Repeat([]byte{7}, 1<<20)
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	for _, op := range []func() error{
		f.DataSync, f.Sync,
		func() error { return f.Truncate(4 << 20) },
		func() error { return f.Punch(256<<10, 256<<10) },
	} {
		if err := op(); err != nil {
			t.Fatal(err)
		}
	}
	f.(*osFile).park() // it must come back writable and not be created again
	got := make([]byte, 3)
	if err := ReadFull(f, got, 256<<10); err != nil || !bytes.Equal(got, []byte{0, 0, 0}) {
		t.Errorf("the punched range reads %v, %v", got, err)
	}
	if _, err := f.WriteAt([]byte{9}, 0); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		seek      func(int64) (int64, error)
		off, want int64
	}{
		{f.NextHole, 0, 256 << 10}, {f.NextData, 256 << 10, 512 << 10}, {f.NextHole, 600 << 10, 1 << 20}, {f.NextData, 2 << 20, 4 << 20},
	} {
		if got, err := c.seek(c.off); err != nil || got != c.want {
			t.Errorf("seek from %d: %d, %v; want %d", c.off, got, err, c.want)
		}
	}
	if err := ReadFull(f, got, 4<<20-1); err == nil {
		t.Error("read past the end without an error")
	}
}

// TestGuard: the locks outlive the descriptor, conflict as asked for, and go with
// the release; the process that holds them is named.
func TestGuard(t *testing.T) {
	dir, o := host(t)
	open := func() File {
		f, err := o.Open(filepath.Join(dir, "vm/disk.vdi"), ReadOnly)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(), open()
	release, err := a.Guard([]int64{100, 201}, []int64{101})
	if err != nil {
		t.Fatal(err)
	}
	a.(*osFile).park()
	if again, err := b.Guard([]int64{100, 201}, []int64{101}); err != nil {
		t.Errorf("a second reader: %v", err)
	} else {
		again()
	}
	if _, err := b.Guard([]int64{101}, []int64{201}); !errors.Is(err, ErrLocked) {
		t.Errorf("a writer beside a reader: %v", err)
	}
	release()
	if alone, err := b.Guard([]int64{101}, []int64{201}); err != nil {
		t.Errorf("after the release: %v", err)
	} else {
		alone()
	}
}

// TestUsers: other processes that have the file open are seen, those that only read
// when all are asked for.
func TestUsers(t *testing.T) {
	dir, o := host(t)
	p := filepath.Join(dir, "vm/disk.vdi")
	f, err := o.Open(p, ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	writer, reader := holder(t, p, os.O_RDWR), holder(t, p, os.O_RDONLY)
	for _, c := range []struct {
		writing bool
		want    map[int]bool // whether the process writes
	}{
		{false, map[int]bool{writer: true, reader: false}},
		{true, map[int]bool{writer: true}},
	} {
		got := map[int]bool{}
		for _, u := range o.Users([]File{f}, c.writing) {
			got[u.PID] = u.Writing
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("writing %t: users %v, want %v", c.writing, got, c.want)
		}
	}
}

// holder is a process that has a file open until the test ends.
func holder(t *testing.T, path string, flags int) int {
	held, err := os.OpenFile(path, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("sh", "-c", "echo; read x <&3", "sh")
	cmd.ExtraFiles = []*os.File{r, held}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		cmd.Wait()
	})
	out.Read(make([]byte, 1)) // it runs
	return cmd.Process.Pid
}
