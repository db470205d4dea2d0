package imgops

import (
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
