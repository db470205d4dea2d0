package imgops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
	"vdfs/vdcore/storage/faultfs"
)

// makeOn makes a variant of 2 MiB and a sector at /vm/disk.
func makeOn(ctx context.Context, fsys storage.FS, b vdcore.Backend, m vdcore.Making) error {
	o := allOptions(m)
	o.Capacity = 2<<20 + 512
	return create(ctx, fsys, b, "/vm/disk"+b.Extensions[0], o, nil)
}

// empty fails unless the image is whole and of zeros.
func empty(fsys storage.FS, path string) error {
	c, err := vdcore.OpenFS(fsys, path, vdcore.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	got := make([]byte, 2<<20+512)
	if c.Top().Capacity() != int64(len(got)) {
		return fmt.Errorf("%d bytes", c.Top().Capacity())
	}
	if _, err := c.Top().ReadAt(got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, make([]byte, len(got))) { // fast under the race detector
		return errors.New("not empty")
	}
	return nil
}

// refusals are how a half-made image is not opened.
var refusals = []error{fs.ErrNotExist, vdcore.ErrFormat, vdcore.ErrCorrupt, vdcore.ErrMissing}

// TestCreatePowerCut: the power may go at any operation. What opens afterwards is a
// whole image, and once Create has returned it is there.
func TestCreatePowerCut(t *testing.T) {
	eachMaking(t, func(t *testing.T, b vdcore.Backend, m vdcore.Making) {
		path := "/vm/disk" + b.Extensions[0]
		states := 0
		for n := 1; ; n++ {
			f := crashfs.New()
			f.CutAt(n)
			err := makeOn(t.Context(), f, b, m)
			for i := range 4 { // all modes in turn
				mode := crashfs.Modes()[(n+3*i)%len(crashfs.Modes())]
				left := f.SurviveAs(mode, rand.New(rand.NewPCG(5, uint64(n))))
				states++
				seen := empty(left, path)
				unmade := slices.ContainsFunc(refusals, func(err error) bool { return errors.Is(seen, err) })
				if seen != nil && (err == nil || !unmade && b.Name != "raw") { // a plain file is a disk of any length
					t.Errorf("cut at %d, %v: %v", n, mode, seen)
				}
			}
			if err == nil {
				t.Logf("%d cuts, %d surviving states", n-1, states)
				return
			}
		}
	})
}

// TestCreateFaults: whatever fails, and be it that the disk is full, nothing is left,
// and the error says why.
func TestCreateFaults(t *testing.T) {
	const removing = faultfs.Remove // must work for nothing to be left
	eachMaking(t, func(t *testing.T, b vdcore.Backend, m vdcore.Making) {
		for _, short := range []bool{false, true} {
			for n := 1; ; n++ {
				f := crashfs.New()
				rule := faultfs.Rule{Ops: faultfs.Mutations &^ removing, At: n, Err: syscall.ENOSPC, Short: short, Forever: true}
				err := makeOn(t.Context(), faultfs.New(f, rule), b, m)
				if err == nil {
					break
				}
				if left := f.Paths(); !errors.Is(err, syscall.ENOSPC) || len(left) > 0 || f.OpenFiles() > 0 {
					t.Errorf("operation %d: %v, left %v, %d open", n, err, left, f.OpenFiles())
				}
			}
		}
	})
}

// noSpace is a file system that cannot reserve space.
type noSpace struct{ storage.FS }

type noSpaceFile struct{ storage.File }

func (f noSpace) Open(path string, mode storage.Mode) (storage.File, error) {
	file, err := f.FS.Open(path, mode)
	return noSpaceFile{file}, err
}

func (noSpaceFile) Allocate(int64, int64) error { return storage.ErrNoAllocate }

// TestCreateWithoutAllocate: fixed images are written out then, all of them.
func TestCreateWithoutAllocate(t *testing.T) {
	eachMaking(t, func(t *testing.T, b vdcore.Backend, m vdcore.Making) {
		f := crashfs.New()
		if err := makeOn(t.Context(), noSpace{f}, b, m); err != nil {
			t.Fatal(err)
		}
		written := int64(0)
		for _, op := range f.Log() {
			if op.Kind == crashfs.OpWrite {
				written += op.Len
			}
		}
		if full := m.Flags&vdcore.FlagFixed != 0 && m.Name != "sparse"; full != (written >= 2<<20) {
			t.Errorf("%d bytes written", written)
		}
		if err := empty(f, "/vm/disk"+b.Extensions[0]); err != nil {
			t.Error(err)
		}
	})
}
