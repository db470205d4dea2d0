package imgops

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	_ "vdfs/formats/all"
	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
	"vdfs/vdcore/storage/faultfs"
	"vdfs/vdcore/vdtest"
)

// golden is a golden image without its parents, as files below /vm.
type golden struct {
	archive, open string // the image's file
	files         []string
}

// goldens are one of each kind of place a header or descriptor has.
var goldens = []golden{
	{"vdi-v0.tar.gz", "disk.vdi", []string{"disk.vdi"}},
	{"vdi-v1-short-header.tar.gz", "disk.vdi", []string{"disk.vdi"}},
	{"vdi-blocks.tar.gz", "ragged-diff.vdi", []string{"ragged-diff.vdi"}},
	{"vmdk-diff3.tar.gz", "diff2.vmdk", []string{"diff2.vmdk"}},
	{"vmdk-qemu-zeroed.tar.gz", "disk.vmdk", []string{"disk.vmdk"}},
	{"vmdk-flat.tar.gz", "disk.vmdk", []string{"disk.vmdk", "disk-flat.vmdk"}},
	{"vmdk-split.tar.gz", "disk.vmdk", []string{"disk.vmdk", "disk-s001.vmdk", "disk-s002.vmdk"}},
	{"vmdk-cowd.tar.gz", "disk.vmdk", nil},
}

func (g golden) name() string { return strings.TrimSuffix(g.archive, ".tar.gz") }
func (g golden) path() string { return "/vm/" + g.open }

func (g golden) load(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	vdtest.Unpack(t, g.archive, dir)
	if g.files == nil {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			g.files = append(g.files, e.Name())
		}
	}
	files := map[string][]byte{}
	for _, name := range g.files {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files["/vm/"+name] = b
	}
	return files
}

// shown is what an image itself holds, in one hash, and what it says of itself.
func shown(fsys storage.FS, path string) (hash string, info vdcore.Info, err error) {
	c, err := vdcore.OpenFS(fsys, path, vdcore.Options{Alone: true})
	if err != nil {
		return "", info, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	img := c.Top().Layer().Image
	info = *img.Info()
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	list, err := img.Map(nil, 0, info.Capacity)
	if err != nil {
		return "", info, err
	}
	for _, e := range list {
		if e.Kind != vdcore.Data {
			continue
		}
		b := make([]byte, e.Len)
		if _, err := c.Top().ReadAt(b, e.Off); err != nil && err != io.EOF {
			return "", info, err
		}
		binary.Write(h, binary.LittleEndian, e.Off)
		h.Write(b)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), info, nil
}

// edit changes all that the image has a place for.
func (g golden) edit(info vdcore.Info) vdcore.Edit {
	comment := "Grüße\naus \\ Köln " + strings.Repeat("ü", 100)
	id, mod, parent := uuid.MustParse("c1142b7f-46ea-4b5d-b9e9-d50c2fef6334"), uuid.MustParse("11111111-2222-4333-8444-555555555555"), uuid.MustParse("22222222-2222-4333-8444-555555555555")
	e := vdcore.Edit{
		Comment: &comment, UUID: &id, ModUUID: &mod,
		PCHS: &vdcore.Geometry{Cylinders: 17, Heads: 16, Sectors: 63}, LCHS: &vdcore.Geometry{Cylinders: 2, Heads: 255, Sectors: 62},
	}
	if info.Version == "0.2" {
		e.LCHS = nil
	}
	if info.Parent != nil {
		e.ParentUUID, e.ParentModUUID = &parent, &mod
		if name := "base of ä.vmdk"; info.Format == "vmdk" {
			e.ParentFile = &name
		}
	}
	return e
}

// edited is what the image shall say then.
func edited(info vdcore.Info, e vdcore.Edit) vdcore.Info {
	info.Comment, info.UUID, info.ModUUID, info.PCHS = *e.Comment, *e.UUID, *e.ModUUID, *e.PCHS
	if e.LCHS != nil {
		info.LCHS = *e.LCHS
	}
	if info.Parent != nil {
		p := *info.Parent
		p.UUID, p.ModUUID = *e.ParentUUID, *e.ParentModUUID
		if e.ParentFile != nil {
			p.Hint = *e.ParentFile
		}
		info.Parent = &p
	}
	return info
}

// says is an Info for comparing, without what a crash may change.
func says(i vdcore.Info) string {
	i.FileSize, i.Notes = 0, nil
	parent := ""
	if i.Parent != nil {
		parent, i.Parent = fmt.Sprint(*i.Parent), nil
	}
	return fmt.Sprintf("%+v %s", i, parent)
}

// eachSeed runs a crash loop, over a sample of the cuts; VDFS_CRASH_SEEDS asks for all of
// them, with as many seeds.
func eachSeed(t *testing.T, do func(opt vdtest.CrashOptions)) {
	seeds, _ := strconv.Atoi(os.Getenv("VDFS_CRASH_SEEDS"))
	for seed := range max(seeds, 1) {
		opt := vdtest.CrashOptions{Seed: uint64(seed), Survivors: 9}
		if seeds == 0 {
			opt.MaxCuts = 4
		}
		do(opt)
	}
}

// onGoldens runs a crash test for the golden images that suit: with their files, and
// with what they hold and say.
func onGoldens(t *testing.T, suits func(g golden) bool, test func(t *testing.T, g golden, files map[string][]byte, hash string, old vdcore.Info)) {
	vdtest.Loop(t)
	for _, g := range goldens {
		if !suits(g) {
			continue
		}
		t.Run(g.name(), func(t *testing.T) {
			t.Parallel()
			files := g.load(t)
			before := crashfs.New()
			for path, b := range files {
				before.Put(path, b)
			}
			hash, old, err := shown(before, g.path())
			if err != nil {
				t.Fatal(err)
			}
			test(t, g, files, hash, old)
		})
	}
}

// pieced reports whether the pieces of an image are named after it.
func pieced(g golden) bool { return len(g.files) > 0 }

// TestSetCrash: whenever the power goes, the image says what it said, or all that it
// was told to say, and holds what it held.
func TestSetCrash(t *testing.T) {
	// A descriptor file of more pieces is like that of one.
	onGoldens(t, func(g golden) bool { return len(g.files) <= 2 }, func(t *testing.T, g golden, files map[string][]byte, hash string, old vdcore.Info) {
		e := g.edit(old)
		want := edited(old, e)
		eachSeed(t, func(opt vdtest.CrashOptions) {
			vdtest.CrashOperation(t, vdtest.Operation{
				Name: "set " + g.name(), Files: files,
				Do: func(fsys storage.FS) error {
					_, err := set(fsys, g.path(), e, vdcore.Options{})
					return err
				},
				Look: func(fsys storage.FS, done bool) error {
					got, info, err := shown(fsys, g.path())
					switch {
					case err != nil:
						return err
					case got != hash:
						return errors.New("it holds something else")
					case says(info) != says(want) && (done || says(info) != says(old)):
						return fmt.Errorf("it says\n%s, not\n%s", says(info), says(want))
					case done && len(info.Notes) != len(old.Notes):
						return fmt.Errorf("notes: %q", info.Notes)
					}
					return nil
				},
			}, opt)
		})
	})
}

// TestRenameCrash: whenever the power goes, the image opens by its old name or by the
// new one, and renaming it goes on.
func TestRenameCrash(t *testing.T) {
	onGoldens(t, pieced, func(t *testing.T, g golden, files map[string][]byte, hash string, _ vdcore.Info) {
		to := "/vm/win 11" + filepath.Ext(g.open)
		var want []string
		for _, f := range g.files {
			want = append(want, "/vm/win 11"+strings.TrimPrefix(f, stem(g.open)))
		}
		slices.Sort(want)
		eachSeed(t, func(opt vdtest.CrashOptions) {
			vdtest.CrashOperation(t, vdtest.Operation{
				Name: "rename " + g.name(), Files: files,
				Do: func(fsys storage.FS) error {
					_, err := rename(fsys, g.path(), to, vdcore.Options{})
					if _, _, there := shown(fsys, to); errors.Is(err, fs.ErrNotExist) && there == nil {
						return nil // nothing left to do
					}
					return err
				},
				Look: func(fsys storage.FS, done bool) error {
					got, _, err := shown(fsys, to)
					if err != nil && !done {
						var err2 error
						if got, _, err2 = shown(fsys, g.path()); err2 == nil {
							err = nil
						}
					}
					if err == nil && got != hash {
						err = errors.New("it holds something else")
					}
					if paths := fsys.(*crashfs.FS).Paths(); err == nil && done && !slices.Equal(paths, want) {
						err = fmt.Errorf("there are %q, not %q", paths, want)
					}
					return err
				},
			}, opt)
		})
	})
}

// TestRemoveCrash: whenever the power goes, the image is there or does not open.
func TestRemoveCrash(t *testing.T) {
	onGoldens(t, pieced, func(t *testing.T, g golden, files map[string][]byte, hash string, _ vdcore.Info) {
		eachSeed(t, func(opt vdtest.CrashOptions) {
			vdtest.CrashOperation(t, vdtest.Operation{
				Name: "rm " + g.name(), Files: files,
				Do: func(fsys storage.FS) error {
					left, _, err := remove(fsys, g.path(), vdcore.Options{})
					if errors.Is(err, fs.ErrNotExist) {
						return nil
					}
					if len(left) > 0 {
						err = errors.Join(err, fmt.Errorf("left: %q", left))
					}
					return err
				},
				Look: func(fsys storage.FS, done bool) error {
					got, _, err := shown(fsys, g.path())
					switch {
					case errors.Is(err, fs.ErrNotExist):
						return nil
					case err == nil && (done || got != hash):
						return errors.New("it opens, as it should not")
					}
					return err
				},
			}, opt)
		})
	})
}

// TestEditFaults: where an operation on files fails, set, rename and rm say so, and
// the image says and holds what it did, or what it shall. Then they work.
func TestEditFaults(t *testing.T) {
	for _, g := range goldens {
		if len(g.files) == 0 {
			continue
		}
		t.Run(g.name(), func(t *testing.T) {
			t.Parallel()
			files := g.load(t)
			to := "/vm/other" + filepath.Ext(g.open)
			for at := 1; ; at++ {
				mem := crashfs.New()
				for path, b := range files {
					mem.Put(path, b)
				}
				hash, old, err := shown(mem, g.path())
				if err != nil {
					t.Fatal(err)
				}
				e := g.edit(old)
				faulty := faultfs.New(mem, faultfs.Rule{At: at})
				_, err = set(faulty, g.path(), e, vdcore.Options{})
				if err == nil {
					_, err = rename(faulty, g.path(), to, vdcore.Options{})
				}
				if failed := faulty.Failed(); len(failed) == 0 {
					return
				} else if err == nil {
					t.Fatalf("%v failed, and nobody was told", failed)
				}
				got, info, err := shown(mem, g.path())
				if err != nil {
					got, info, err = shown(mem, to)
				}
				if err != nil || got != hash || says(info) != says(old) && says(info) != says(edited(old, e)) {
					t.Fatalf("operation %d, %v: %v\n%s", at, faulty.Failed(), err, says(info))
				}
				if mem.OpenFiles() != 0 {
					t.Fatalf("operation %d, %v: files left open", at, faulty.Failed())
				}
			}
		})
	}
}
