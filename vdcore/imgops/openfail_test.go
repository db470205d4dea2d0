package imgops_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/faultfs"
	"vdfs/vdcore/vdtest"
)

// failingOpen fails the open of a file whose turn it is, with EMFILE.
type failingOpen struct {
	storage.FS
	n  *atomic.Int64
	at int64
}

func (o failingOpen) Open(path string, mode storage.Mode) (storage.File, error) {
	if o.n.Add(1) == o.at {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EMFILE}
	}
	return o.FS.Open(path, mode)
}

func (o failingOpen) Below(dir string) storage.FS { return failingOpen{o.FS.Below(dir), o.n, o.at} }

// chainFiles makes a chain of images 0.ext, 1.ext and so on, base first, and returns
// what they consist of.
func chainFiles(t *testing.T, ext string, layers int) [][]byte {
	dir := t.TempDir()
	var files [][]byte
	for i := range layers {
		path := filepath.Join(dir, fmt.Sprintf("%d.%s", i, ext))
		err := error(nil)
		if i == 0 {
			err = imgops.Create(t.Context(), path, imgops.CreateOptions{Capacity: 4 << 20}, nil)
		} else {
			err = snapshotOf(filepath.Join(dir, fmt.Sprintf("%d.%s", i-1, ext)), path)
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, data)
	}
	return files
}

func snapshotOf(base, path string) error {
	c, err := vdcore.Open(base, vdcore.Options{})
	if err != nil {
		return err
	}
	return errors.Join(imgops.Snapshot(c, path), c.Close())
}

// TestFailingOpens: wherever opening a chain fails, no file stays open or locked, those
// included that the search for a parent leaves open for whoever opens it for good.
func TestFailingOpens(t *testing.T) {
	damages := map[string]func(f [][]byte){
		"none":         func([][]byte) {},
		"gone":         func(f [][]byte) { f[1] = nil },
		"not an image": func(f [][]byte) { f[1] = []byte("nothing") },
		"cut":          func(f [][]byte) { f[1] = f[1][:1500] },
		"another":      func(f [][]byte) { f[1] = f[2] },
		"cycle":        func(f [][]byte) { f[0] = f[3] },
	}
	options := []vdcore.Options{{}, {AllowIncomplete: true}, {AllowModifiedParent: true}, {Write: true}, {Alone: true}}
	for _, ext := range []string{"vdi", "vmdk"} {
		whole := chainFiles(t, ext, 5)
		for name, damage := range damages {
			t.Run(ext+", "+name, func(t *testing.T) {
				files := slices.Clone(whole)
				damage(files)
				for _, o := range options {
					failOpening(t, files, ext, o)
				}
			})
		}
	}
}

// failOpening opens the last of some images with a failure at each open and each read
// in turn.
func failOpening(t *testing.T, files [][]byte, ext string, o vdcore.Options) {
	open := func(wrap func(*vdtest.Mem) storage.FS) error {
		m := vdtest.NewMem()
		top := ""
		for i, data := range files {
			top = fmt.Sprintf("/vm/%d.%s", i, ext)
			if o.Write && i == len(files)-1 {
				data = slices.Clone(data)
			}
			if data != nil {
				m.Put(top, data)
			}
		}
		c, err := vdcore.OpenFS(wrap(m), top, o)
		if err == nil {
			err = c.Close()
		}
		if m.OpenFiles() != 0 || m.Guards() != 0 {
			t.Fatalf("%+v: %d files open and %d locked after: %v", o, m.OpenFiles(), m.Guards(), err)
		}
		return err
	}
	var opens atomic.Int64
	var reads *faultfs.FS
	open(func(m *vdtest.Mem) storage.FS { return failingOpen{m, &opens, 0} })
	open(func(m *vdtest.Mem) storage.FS { reads = faultfs.New(m, faultfs.Rule{Ops: faultfs.Read}); return reads })
	if opens.Load() == 0 || reads.Count() == 0 {
		t.Fatalf("%d opens and %d reads", opens.Load(), reads.Count())
	}
	for k := range opens.Load() {
		open(func(m *vdtest.Mem) storage.FS { return failingOpen{m, new(atomic.Int64), k + 1} })
	}
	for k := range reads.Count() {
		for _, forever := range []bool{false, true} {
			open(func(m *vdtest.Mem) storage.FS {
				return faultfs.New(m, faultfs.Rule{Ops: faultfs.Read, At: k + 1, Forever: forever})
			})
		}
	}
}

// changing changes a file in place just before it is locked for the first time.
type changing struct {
	*vdtest.Mem
	path     string
	old, new string
	opens    atomic.Int32
}

type changingFile struct {
	storage.File
	fs *changing
}

func (c *changing) Open(path string, mode storage.Mode) (storage.File, error) {
	f, err := c.Mem.Open(path, mode)
	if err != nil || path != c.path {
		return f, err
	}
	c.opens.Add(1)
	return &changingFile{f, c}, nil
}

func (f *changingFile) Guard(take, conflict []int64) (func(), error) {
	text := f.fs.Bytes(f.fs.path)
	w, err := f.fs.Mem.Open(f.fs.path, storage.ReadWrite)
	if err != nil {
		return nil, err
	}
	_, err = w.WriteAt([]byte(strings.Replace(string(text), f.fs.old, f.fs.new, 1)), 0)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return f.File.Guard(take, conflict)
}

// TestChangedBeforeLock: a parent found by its name is opened once, and judged by what it
// is once it is locked.
func TestChangedBeforeLock(t *testing.T) {
	files := chainFiles(t, "vmdk", 3)
	open := func(old, new string) (*changing, error) {
		s := &changing{Mem: vdtest.NewMem(), path: "/vm/1.vmdk", old: old, new: new}
		for i, data := range files {
			s.Put(fmt.Sprintf("/vm/%d.vmdk", i), slices.Clone(data))
		}
		c, err := vdcore.OpenFS(s, "/vm/2.vmdk", vdcore.Options{})
		if err == nil {
			err = c.Close()
		}
		if s.opens.Load() != 1 || s.OpenFiles() != 0 || s.Guards() != 0 {
			t.Errorf("opened %d times, %d files left open, %d locked", s.opens.Load(), s.OpenFiles(), s.Guards())
		}
		return s, err
	}
	if _, err := open("\nCID=", "\nCID="); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	if s, err := open("ddb.uuid.modification=\"", "ddb.uuid.modificatiom=\""); !errors.Is(err, vdcore.ErrInUse) {
		t.Errorf("changed before it was locked: %v, want %q; it is now:\n%.700s", err, vdcore.ErrInUse, s.Bytes(s.path)[512:])
	}
}
