package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestNames: names are given and taken inside the allowed folders, and nothing is
// replaced that was not to be.
func TestNames(t *testing.T) {
	dir, o := host(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	has := func(name, want string) {
		t.Helper()
		if got, _ := os.ReadFile(at(name)); string(got) != want {
			t.Errorf("%s holds %q, not %q", name, got, want)
		}
	}
	if err := o.Rename(at("up.vdi"), at("vm/disk.vdi")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a file: %v", err)
	}
	if err := o.Link(at("up.vdi"), at("vm/disk.vdi")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second name that is taken: %v", err)
	}
	if err := o.Replace(at("up.vdi"), at("vm/none.vdi")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("instead of nothing: %v", err)
	}
	if err := o.Below(at("vm")).Rename(at("vm/disk.vdi"), at("out.vdi")); !errors.Is(err, ErrOutside) {
		t.Errorf("out of the folder: %v", err)
	}
	if err := os.Symlink(at("other/far.vdi"), at("vm/link.vdi")); err != nil {
		t.Fatal(err)
	}
	if err := o.Rename(at("up.vdi"), at("vm/link.vdi")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a link: %v", err)
	}
	for _, err := range []error{
		o.Link(at("vm/disk.vdi"), at("vm/two.vdi")), o.Rename(at("vm/disk.vdi"), at("vm/Snapshots/one.vdi")),
		o.Replace(at("up.vdi"), at("vm/Snapshots/s.vdi")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	has("vm/two.vdi", "disk")
	has("vm/disk.vdi", "")
	has("vm/Snapshots/one.vdi", "disk")
	has("up.vdi", "")
	has("vm/Snapshots/s.vdi", "up")
}

// TestOverwrite: another content under the same name, mode and owner, and no file
// left beside; in place where the folder is not the user's.
func TestOverwrite(t *testing.T) {
	dir, o := host(t)
	path := filepath.Join(dir, "vm/disk.vdi")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0
	if root {
		if err := os.Chown(path, 1234, 1235); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Overwrite(o, path, []byte("another")); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	was, is := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
	if was.Mode != is.Mode || was.Uid != is.Uid || was.Gid != is.Gid || was.Ino == is.Ino {
		t.Errorf("before %o %d:%d, after %o %d:%d", was.Mode, was.Uid, was.Gid, is.Mode, is.Uid, is.Gid)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "another" {
		t.Errorf("%q, %v", got, err)
	}
	if names, err := o.List(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("left: %q, %v", names, err)
	}
	if root {
		return // may write anywhere
	}
	if err := os.Chmod(filepath.Dir(path), 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Dir(path), 0o755)
	if err := Overwrite(o, path, []byte("short")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "short" {
		t.Errorf("in place: %q, %v", got, err)
	}
}
