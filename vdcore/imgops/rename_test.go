package imgops

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage/crashfs"
)

// TestRenameExtension: a name that differs in its extension alone keeps the pieces, which
// have it already, also when the command is given again.
func TestRenameExtension(t *testing.T) {
	for _, g := range goldens {
		if len(g.files) < 2 {
			continue
		}
		t.Run(g.name(), func(t *testing.T) {
			mem := crashfs.New()
			for path, b := range g.load(t) {
				mem.Put(path, b)
			}
			hash, _, err := shown(mem, g.path())
			if err != nil {
				t.Fatal(err)
			}
			to := "/vm/disk.VMDK"
			if _, err := rename(mem, g.path(), to, vdcore.Options{}); err != nil {
				t.Fatal(err)
			}
			if _, err := rename(mem, g.path(), to, vdcore.Options{}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("again: %v", err)
			}
			if got, _, err := shown(mem, to); err != nil || got != hash {
				t.Errorf("%v: it holds something else", err)
			}
			want := []string{to}
			for _, f := range g.files[1:] {
				want = append(want, "/vm/"+f)
			}
			slices.Sort(want)
			if paths := mem.Paths(); !slices.Equal(paths, want) {
				t.Errorf("there are %q, not %q", paths, want)
			}
		})
	}
}

// TestRenameOddNames: a piece the descriptor names in another way than its file is called
// is renamed there too, or nothing is.
func TestRenameOddNames(t *testing.T) {
	for _, c := range []struct {
		line, file string // in the descriptor, and in the folder
		after      string // "": refused
	}{
		{"./disk-flat.vmdk", "/vm/disk-flat.vmdk", `"new-flat.vmdk"`},
		{".//disk-flat.vmdk", "/vm/disk-flat.vmdk", `"new-flat.vmdk"`},
		{"k\xf6ln-flat.vmdk", "/vm/köln-flat.vmdk", ""},
	} {
		mem, path := crashfs.New(), "/vm/disk.vmdk"
		for from, b := range goldens[5].load(t) {
			if from == path {
				b = bytes.Replace(b, []byte("disk-flat.vmdk"), []byte(c.line), 1)
				if c.after == "" {
					path = "/vm/köln.vmdk"
					b = bytes.Replace(b, []byte("version=1"), []byte("version=1\nencoding=\"windows-1252\""), 1)
				}
				mem.Put(path, b)
				continue
			}
			mem.Put(c.file, b)
		}
		hash, _, err := shown(mem, path)
		if err != nil {
			t.Fatal(err)
		}
		paths, to := mem.Paths(), "/vm/new.vmdk"
		_, err = rename(mem, path, to, vdcore.Options{})
		if c.after == "" {
			if !errors.Is(err, vdcore.ErrUnsupported) || !slices.Equal(mem.Paths(), paths) {
				t.Errorf("%q: %v, and there are %q", c.line, err, mem.Paths())
			}
			to = path
		} else if err != nil {
			t.Errorf("%q: %v", c.line, err)
		}
		if got, _, err := shown(mem, to); err != nil || got != hash {
			t.Errorf("%q: %v: it holds something else", c.line, err)
		}
	}
}
