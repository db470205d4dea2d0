package integration

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWrittenPartitions: partitions of a disk that is written show what was written to
// it as soon as the write returns: read through a descriptor that read them before, by
// one just opened, and through a mapping. They cannot be written themselves.
func TestWrittenPartitions(t *testing.T) {
	for _, flags := range []int{os.O_RDWR, os.O_WRONLY} {
		dir := t.TempDir()
		disk := filepath.Join(dir, "disk.raw")
		layouts[1].make(t, disk)
		part := contentsOf(t, disk).Partitions[0]
		img := filepath.Join(dir, "image.vdi")
		must(t, "convert", disk, img)
		mnt := mount(t, "--rw", img)
		folder := filepath.Join(mnt, "image")
		w := &writtenPart{file: filepath.Join(folder, "p1.raw"), start: part.Start, content: make([]byte, part.Size)}
		w.open(t, filepath.Join(folder, "disk.raw"), flags)
		defer w.close(t)
		w.drill(t)
		if _, err := os.OpenFile(w.file, os.O_RDWR, 0); !errors.Is(err, syscall.EROFS) {
			t.Errorf("opened for writing: %v", err)
		}
		if err := os.Truncate(w.file, 0); !errors.Is(err, syscall.EROFS) {
			t.Errorf("truncated: %v", err)
		}
		st, err := os.Stat(w.file)
		if err != nil || st.Size() != part.Size || st.Sys().(*syscall.Stat_t).Blocks == 0 || st.ModTime().Unix() < stat(t, img).Mtim.Sec-24*3600 {
			t.Errorf("%+v, %v", st, err)
		}
	}
}

type writtenPart struct {
	file    string
	start   int64
	content []byte
	disk    *os.File
	part    *os.File
	mapped  []byte
}

func (w *writtenPart) open(t *testing.T, disk string, flags int) {
	t.Helper()
	var err, perr, merr error
	w.disk, err = os.OpenFile(disk, flags, 0)
	if w.part, perr = os.Open(w.file); perr == nil {
		_, perr = w.part.ReadAt(w.content, 0)
		w.mapped, merr = unix.Mmap(int(w.part.Fd()), 0, len(w.content), unix.PROT_READ, unix.MAP_SHARED)
	}
	if err := errors.Join(err, perr, merr); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.mapped, w.content) { // and now all of it is in memory
		t.Fatal("mapped, it differs")
	}
}

func (w *writtenPart) close(t *testing.T) {
	t.Helper()
	if err := errors.Join(unix.Munmap(w.mapped), w.part.Close(), w.disk.Sync(), w.disk.Close()); err != nil {
		t.Error(err)
	}
}

// drill writes and punches, over the partition's ends too, and looks at once.
func (w *writtenPart) drill(t *testing.T) {
	t.Helper()
	r := rand.New(rand.NewPCG(6, 1))
	bytesOf := rand.NewChaCha8([32]byte{6})
	for i := range 500 {
		off := r.Int64N(int64(len(w.content))+20000) - 10000
		p := make([]byte, 1+r.IntN(1<<r.IntN(17)))
		bytesOf.Read(p)
		if off+w.start < 1<<19 || off > int64(len(w.content)) {
			continue
		}
		var err error
		if i%5 == 0 {
			clear(p)
			err = unix.Fallocate(int(w.disk.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, w.start+off, int64(len(p)))
		} else {
			_, err = w.disk.WriteAt(p, w.start+off)
		}
		if err != nil {
			t.Fatal(err)
		}
		from, to := max(off, 0), min(off+int64(len(p)), int64(len(w.content)))
		if from >= to {
			continue
		}
		copy(w.content[from:to], p[from-off:])
		w.look(t, from, to)
	}
	if got, err := os.ReadFile(w.file); err != nil || !bytes.Equal(got, w.content) || !bytes.Equal(w.mapped, w.content) {
		t.Errorf("after all, %v, or other bytes", err)
	}
}

func (w *writtenPart) look(t *testing.T, from, to int64) {
	t.Helper()
	want, got := w.content[from:to], make([]byte, to-from)
	if _, err := w.part.ReadAt(got, from); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes at %d: %v, or old bytes", to-from, from, err)
	}
	if !bytes.Equal(w.mapped[from:to], want) {
		t.Fatalf("%d bytes at %d: old bytes in a mapping", to-from, from)
	}
	again, err := os.Open(w.file)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.ReadAt(got, from); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes at %d, opened anew: %v, or old bytes", to-from, from, err)
	}
}
