package imgops

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vdfs/vdcore"
)

// names lists a folder.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		list = append(list, e.Name())
	}
	return list
}

// TestForce: an image is replaced as a whole, its pieces too, and nothing else.
func TestForce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.vmdk")
	bystander := filepath.Join(dir, "disk-notes.vmdk")
	if err := os.WriteFile(bystander, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), path, CreateOptions{Capacity: 3 << 30, Variant: "split2g"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		variant string
		want    []string
	}{
		{"fixed", []string{"disk-flat.vmdk", "disk-notes.vmdk", "disk.vmdk"}},
		{"esx", []string{"disk-flat.vmdk", "disk-notes.vmdk", "disk.vmdk"}},
		{"stream", []string{"disk-notes.vmdk", "disk.vmdk"}},
		{"dynamic", []string{"disk-notes.vmdk", "disk.vmdk"}},
	} {
		o := CreateOptions{Capacity: 1 << 20, Variant: c.variant}
		if err := Create(t.Context(), path, o, nil); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s without force: %v", c.variant, err)
		}
		o.Force = true
		if err := Create(t.Context(), path, o, nil); err != nil {
			t.Fatal(err)
		}
		if got := names(t, dir); !slices.Equal(got, c.want) {
			t.Errorf("%s: left %v", c.variant, got)
		}
		agrees(t, path, vdcore.Backend{Name: "vmdk"}, make([]byte, 1<<20))
	}
}

// TestForceRefused: what is in use, named as parent, or in the way stays, and so does
// everything when the new image cannot be made.
func TestForceRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.vdi")
	force := CreateOptions{Capacity: 1 << 20, Force: true}
	if err := Create(t.Context(), path, force, nil); err != nil { // nothing is there
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	stays := func(what string, want, err error) {
		t.Helper()
		now, rerr := os.ReadFile(path)
		if !errors.Is(err, want) || rerr != nil || !slices.Equal(now, before) {
			t.Errorf("%s: %v, %v", what, err, rerr)
		}
	}
	c, err := vdcore.Open(path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stays("in use", vdcore.ErrInUse, Create(t.Context(), path, force, nil))
	if err := Snapshot(c, filepath.Join(dir, "child.vdi")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	stays("a parent", vdcore.ErrInUse, Create(t.Context(), path, force, nil))
	if err := os.Remove(filepath.Join(dir, "child.vdi")); err != nil {
		t.Fatal(err)
	}
	bad := force
	bad.Variant = "stream"
	stays("cannot be made", vdcore.ErrUnsupported, Create(t.Context(), path, bad, nil))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	fixed := force
	fixed.Variant = "fixed"
	stays("stopped", context.Canceled, Create(ctx, path, fixed, nil))
	if got := names(t, dir); !slices.Equal(got, []string{"disk.vdi"}) {
		t.Errorf("left %v", got)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.vdi"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), filepath.Join(dir, "folder.vdi"), force, nil); !errors.Is(err, vdcore.ErrNotRegular) {
		t.Errorf("a folder: %v", err)
	}
	flat := filepath.Join(dir, "other-flat.vmdk")
	if err := errors.Join(os.WriteFile(flat, []byte("mine"), 0o600), os.WriteFile(filepath.Join(dir, "other.vmdk"), []byte("no image"), 0o600)); err != nil {
		t.Fatal(err)
	}
	fixed.Capacity = 512
	if err := Create(t.Context(), filepath.Join(dir, "other.vmdk"), fixed, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a piece of nobody is in the way: %v", err)
	}
	if got, _ := os.ReadFile(flat); string(got) != "mine" {
		t.Error("it was overwritten")
	}
}

// TestForceHolds: while the new image is made nobody can begin to use the old one, whose
// changes would be lost; and a damaged image is kept for its children too.
func TestForceHolds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.vdi")
	o := CreateOptions{Capacity: 1 << 20}
	if err := Create(t.Context(), path, o, nil); err != nil {
		t.Fatal(err)
	}
	err := build(path, true, func(to string) error {
		if _, err := vdcore.Open(path, vdcore.Options{Write: true}); !errors.Is(err, vdcore.ErrInUse) {
			t.Errorf("the old image is opened for writing meanwhile: %v", err)
		}
		return Create(t.Context(), to, o, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := vdcore.Open(path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Snapshot(c, filepath.Join(dir, "child.vdi")), c.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{7, 0, 0, 0}, 1<<20) // its block leads nowhere
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	o.Force = true
	if err := Create(t.Context(), path, o, nil); !errors.Is(err, vdcore.ErrInUse) {
		t.Errorf("a damaged parent: %v", err)
	}
}
