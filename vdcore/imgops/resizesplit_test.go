package imgops

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// TestResizeSplit: a split sparse VMDK grows by pieces, which QEMU reads, and loses
// them again. A file in the way of a piece stays as it is.
func TestResizeSplit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.vmdk")
	open := func() *vdcore.Chain {
		chain, err := vdcore.Open(path, vdcore.Options{Write: true})
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	to := func(size int64) error { return Resize(t.Context(), open(), size, nil) }
	write := func(p []byte, off int64) {
		chain := open()
		_, err := chain.Top().WriteAt(p, off)
		if err = errors.Join(err, chain.Close()); err != nil {
			t.Fatal(err)
		}
	}
	pieces := func(want ...string) {
		t.Helper()
		files, err := os.ReadDir(dir)
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
		}
		if want = append(want, "disk-s001.vmdk", "disk.vmdk", "plain"); err != nil || !slices.Equal(names, slices.Sorted(slices.Values(want))) {
			t.Errorf("the files are %v, not %v (%v)", names, want, err)
		}
	}
	createSplit(t, path, 1<<20)
	first, last := bytes.Repeat([]byte("first"), 20000), bytes.Repeat([]byte("last"), 20000)
	write(first, 700000)
	const large = 2050 << 20 // 1 MiB, 2047 MiB, 2 MiB
	plain := filepath.Join(dir, "plain")
	flat, err := os.Create(plain)
	if err == nil {
		_, err = flat.WriteAt(first, 700000)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer flat.Close()

	inTheWay := filepath.Join(dir, "disk-s003.vmdk")
	if err := os.WriteFile(inTheWay, []byte("somebody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := to(large); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a file is in the way: %v", err)
	}
	pieces("disk-s003.vmdk")
	if got, err := os.ReadFile(inTheWay); err != nil || string(got) != "somebody's" {
		t.Errorf("the file in the way holds %q (%v)", got, err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}

	if err := to(large); err != nil {
		t.Fatal(err)
	}
	pieces("disk-s002.vmdk", "disk-s003.vmdk")
	write(last, large-int64(len(last)))
	if _, err := flat.WriteAt(last, large-int64(len(last))); err != nil {
		t.Fatal(err)
	}
	qemuAgrees(t, "vmdk", path, plain)
	if err := to(1 << 20); !errors.Is(err, vdcore.ErrCut) {
		t.Errorf("data would be lost: %v", err)
	}
	write(make([]byte, len(last)), large-int64(len(last)))
	if err := to(1 << 20); err != nil {
		t.Fatal(err)
	}
	pieces()
	if err := flat.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	qemuAgrees(t, "vmdk", path, plain)
}

func createSplit(t *testing.T, path string, size int64) {
	t.Helper()
	fsys, err := storage.NewOS(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := vdcore.Lookup("vmdk")
	if err == nil {
		err = b.Create(t.Context(), vdcore.CreateArgs{FS: fsys, Path: path, Variant: "split2g", Capacity: size, UUID: uuid.New()})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestResizeSplitRagged: nothing comes behind a piece that ends inside a grain.
func TestResizeSplitRagged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	createSplit(t, path, 1<<20+512)
	chain, err := vdcore.Open(path, vdcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := Resize(t.Context(), chain, 2<<20, nil); !errors.Is(err, vdcore.ErrUnsupported) {
		t.Errorf("it grew: %v", err)
	}
}
