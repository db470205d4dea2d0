package imgops_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
	"vdfs/vdcore/vdtest"
)

// mergeCase is a chain of which the topmost image is merged.
type mergeCase struct {
	name         string
	files        map[string][]byte
	over, parent string
	flat         []byte
	opts         vdcore.Options // to open it with
}

// newMergeCase makes a chain of images of these formats, base first. Each holds some
// data, parts of blocks among them, and shows zeros where those below hold data.
func newMergeCase(t *testing.T, seed uint64, formats ...string) mergeCase {
	t.Helper()
	const capacity, block = 4<<20 + 512, 512 << 10
	f, r := crashfs.New(), rand.New(rand.NewPCG(seed, 8))
	c := mergeCase{name: strings.Join(formats, ", "), files: map[string][]byte{}, flat: make([]byte, capacity)}
	if formats[0] == "raw" { // nothing vouches for a plain disk
		c.opts = vdcore.Options{Parents: []string{"/vm/0.raw"}, AllowModifiedParent: true}
	}
	for i, format := range formats {
		args := vdcore.CreateArgs{FS: f, Path: fmt.Sprintf("/vm/%d.%s", i, format), Capacity: capacity}
		if format == "vdi" {
			args.BlockSize = block
		}
		if format != "raw" {
			args.UUID = vdtest.RandomUUID(r)
		}
		if c.parent = c.over; i > 0 {
			args.Parent = &vdcore.CreateParent{Info: infoOf(t, f, c.over, c.opts), Hint: filepath.Base(c.over)}
		}
		b, err := vdcore.Lookup(format)
		if err == nil {
			err = b.Create(t.Context(), args)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.over = args.Path
		c.scribble(t, f, r, block)
	}
	for _, path := range f.Paths() {
		c.files[path] = f.Bytes(path)
	}
	return c
}

// scribble writes to the topmost image, and discards some blocks.
func (c *mergeCase) scribble(t *testing.T, fsys storage.FS, r *rand.Rand, block int64) {
	t.Helper()
	o := c.opts
	o.Write = true
	if err := with(fsys, c.over, o, func(chain *vdcore.Chain) error {
		for off := int64(0); off < int64(len(c.flat)); off += block {
			p := c.flat[off:min(off+block, int64(len(c.flat)))]
			var err error
			switch r.IntN(4) {
			case 0:
				clear(p)
				err = chain.Top().Discard(off, int64(len(p)))
			case 1:
				skip := r.IntN(len(p)) // is the parent's
				for k := skip; k < len(p); k++ {
					p[k] = byte(r.Uint32())
				}
				_, err = chain.Top().WriteAt(p[skip:], off+int64(skip))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func (c *mergeCase) merge(ctx context.Context, fsys storage.FS) error {
	o := c.opts
	o.Write = true
	chain, err := vdcore.OpenFS(fsys, c.over, o)
	if err != nil {
		return err
	}
	left, err := imgops.MergeFS(ctx, fsys, chain, nil)
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left: %q", left))
	}
	return err
}

// look fails unless the topmost image is there and shows the disk, or is gone and its
// parent shows it, after a check. Those below are as they were, and nothing was written
// to them. may is what the check may find.
func (c *mergeCase) look(f *crashfs.FS, done bool, may func(vdcore.Finding) bool) error {
	path := c.over
	if f.Bytes(path) == nil {
		path = c.parent
	}
	if done && path == c.over {
		return errors.New("the merged image is still there")
	}
	for _, op := range f.Log() {
		if op.Path != c.over && op.Path != c.parent {
			return fmt.Errorf("a parent below, or another file, was written to: %v", op)
		}
	}
	for below, want := range c.files {
		if below != c.over && below != c.parent && !bytes.Equal(f.Bytes(below), want) {
			return fmt.Errorf("%s changed", below)
		}
	}
	return with(f, path, c.opts, func(chain *vdcore.Chain) error {
		got, err := contentOf(chain, may)
		if err == nil && !bytes.Equal(got, c.flat) {
			err = fmt.Errorf("%s shows something else", path)
		}
		return err
	})
}

// mergeCases are of all formats that take writes, in their two roles.
func mergeCases(t *testing.T) []mergeCase {
	return []mergeCase{
		newMergeCase(t, 8, "vdi", "vdi"),
		newMergeCase(t, 2, "vdi", "vdi", "vdi"),
		newMergeCase(t, 3, "vmdk", "vmdk"),
		newMergeCase(t, 4, "vmdk", "vmdk", "vmdk"),
		newMergeCase(t, 9, "raw", "vmdk"),
		newMergeCase(t, 6, "raw", "vmdk", "vmdk"),
		newMergeCase(t, 7, "vdi", "vdi", "vmdk"),
	}
}

// TestMerge: the parent shows the disk, and has a new identity when it has one at all.
func TestMerge(t *testing.T) {
	for _, c := range mergeCases(t) {
		f := onDisk(c.files)
		before := infoOf(t, f, c.parent, c.opts).Identity
		if err := errors.Join(c.merge(t.Context(), f), c.look(f, true, func(vdcore.Finding) bool { return false })); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if after := infoOf(t, f, c.parent, c.opts).Identity; after == before && before != (vdcore.Identity{}) {
			t.Errorf("%s: the identity stays", c.name)
		}
	}
}

// TestMergeCrash lets the power go at every operation.
func TestMergeCrash(t *testing.T) {
	vdtest.Loop(t)
	for _, c := range mergeCases(t) {
		vdtest.CrashOperation(t, vdtest.Operation{
			Name: "merge " + c.name, Files: c.files,
			Do: func(fsys storage.FS) error {
				err := c.merge(context.Background(), fsys)
				if f := fsys.(*crashfs.FS); errors.Is(err, fs.ErrNotExist) && f.Bytes(c.over) == nil {
					return nil // nothing left to do
				}
				return err
			},
			Look: func(fsys storage.FS, done bool) error {
				return c.look(fsys.(*crashfs.FS), done, func(f vdcore.Finding) bool {
					return !done && leftOver(f) || f.Code == "unclean" // when it went while the parent got its identity
				})
			},
		}, vdtest.CrashOptions{MaxCuts: imgops.Cuts(int64(len(c.flat))), Survivors: 4})
	}
}
