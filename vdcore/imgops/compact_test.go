package imgops_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	_ "vdfs/formats/all"
	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
	"vdfs/vdcore/vdtest"
)

// wasteful is a chain whose topmost image holds zeros and what its parents show.
func wasteful(t *testing.T, c vdtest.WriteCase, seed uint64) vdtest.WriteCase {
	t.Helper()
	f := onDisk(c.Files)
	r := rand.New(rand.NewPCG(seed, 5))
	err := with(f, c.Open, vdcore.Options{Write: true}, func(chain *vdcore.Chain) error {
		for at := int64(0); at < int64(len(c.Flat)); at += c.BlockSize {
			p := c.Flat[at:min(at+c.BlockSize, int64(len(c.Flat)))]
			switch r.IntN(4) {
			case 0: // stays
				continue
			case 1:
				clear(p)
			case 2:
				if n := len(chain.Layers()); n > 1 {
					if err := storage.ReadFull(chain.Disk(n-2), p, at); err != nil {
						return err
					}
				}
			}
			if len(p) > 512 { // in two parts: a whole unit of zeros takes no place
				if _, err := chain.Top().WriteAt(p[:512], at); err != nil {
					return err
				}
			}
			if _, err := chain.Top().WriteAt(p, at); err != nil {
				return err
			}
			if err := chain.Top().Allocate(at, int64(len(p))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path := range c.Files {
		c.Files[path] = f.Bytes(path)
	}
	return c
}

func onDisk(files map[string][]byte) *crashfs.FS {
	f := crashfs.New()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f.Put(path, files[path])
	}
	return f
}

// with opens a chain, does something with it, and closes it.
func with(fsys storage.FS, path string, o vdcore.Options, do func(*vdcore.Chain) error) error {
	chain, err := vdcore.OpenFS(fsys, path, o)
	if err != nil {
		return err
	}
	return errors.Join(do(chain), chain.Close())
}

// leftOver reports whether a crash may leave a finding: no damage, or more slots than
// blocks, as while a VDI is resized (formats/vdi/doc.go).
func leftOver(f vdcore.Finding) bool { return f.Leak || f.Odd || f.Code == "block-count" }

// content is what a disk shows, after a check that must find nothing, or nothing but
// leaks.
func content(fsys storage.FS, path string, leaks bool) (b []byte, err error) {
	err = with(fsys, path, vdcore.Options{}, func(chain *vdcore.Chain) error {
		b, err = contentOf(chain, func(f vdcore.Finding) bool { return leaks && leftOver(f) })
		return err
	})
	return b, err
}

// contentOf is what an open disk shows, after a check that must find nothing but what
// may be.
func contentOf(chain *vdcore.Chain, may func(vdcore.Finding) bool) ([]byte, error) {
	b := make([]byte, chain.Top().Capacity())
	if err := storage.ReadFull(chain.Top(), b, 0); err != nil {
		return nil, err
	}
	found, err := chain.Check()
	for _, f := range found[len(found)-1] {
		if !may(f) {
			err = errors.Join(err, fmt.Errorf("%s: %s", f.Code, f.Text))
		}
	}
	return b, err
}

// total is how long the files of the topmost image are together.
func total(f *crashfs.FS, c vdtest.WriteCase) (n int) {
	for _, path := range append(c.Parts, c.Open) {
		n += len(f.Bytes(path))
	}
	return n
}

func compact(ctx context.Context, fsys storage.FS, path string, progress imgops.Progress) (imgops.Compacted, error) {
	chain, err := vdcore.OpenFS(fsys, path, vdcore.Options{Write: true})
	if err != nil {
		return imgops.Compacted{}, err
	}
	return imgops.Compact(ctx, chain, progress)
}

// vdiCase is a chain of depth images with 24 blocks.
func vdiCase(seed uint64, depth int) vdtest.WriteCase {
	const block, capacity = 128 << 10, 23*128<<10 + 37<<10
	r := rand.New(rand.NewPCG(seed, 6))
	c := vdtest.WriteCase{Name: fmt.Sprintf("vdi depth %d", depth), Files: map[string][]byte{}, BlockSize: block}
	var top *vdtest.VDI
	for i := range depth {
		top, c.Flat = vdtest.RandomVDI(r, top, c.Flat, capacity, block)
		c.Open = fmt.Sprintf("/vm/%d.vdi", i)
		c.Files[c.Open] = top.Bytes()
	}
	return c
}

// compactCases are of all writable kinds.
func compactCases(t *testing.T) []vdtest.WriteCase {
	list := []vdtest.WriteCase{
		wasteful(t, vdiCase(1, 1), 1),
		wasteful(t, vdiCase(2, 3), 2),
		wasteful(t, vdtest.CreatedCase(t, "vmdk", ".vmdk", 3, 1, 3<<20+512, 64<<10), 3),
		wasteful(t, vdtest.CreatedCase(t, "vmdk", ".vmdk", 4, 2, 3<<20, 64<<10), 4),
		wasteful(t, vdtest.GoldenWriteCase(t, "vmdk-qemu-zeroed", 0, 64<<10), 5),
	}
	raw := make([]byte, 300000)
	rand.NewChaCha8([32]byte{}).Read(raw)
	list = append(list, wasteful(t, vdtest.WriteCase{
		Name: "raw", Open: "/d/disk.img", Files: map[string][]byte{"/d/disk.img": bytes.Clone(raw)}, Flat: raw, BlockSize: 20 << 10,
	}, 5))
	return list
}

// TestCompact: the content and the identity stay, the parents are not touched, no
// unit is held for nothing, and doing it again does nothing.
func TestCompact(t *testing.T) {
	for _, c := range compactCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			f := onDisk(c.Files)
			before, id := total(f, c), identity(t, f, c.Open)
			var last int64
			done, err := compact(t.Context(), f, c.Open, func(done, total int64) {
				if done < last || done > total {
					t.Errorf("progress %d of %d after %d", done, total, last)
				}
				last = done
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := content(f, c.Open, false)
			if err != nil || !bytes.Equal(got, c.Flat) {
				t.Errorf("the content changed (%v)", err)
			}
			if identity(t, f, c.Open) != id {
				t.Error("the identity changed")
			}
			if c.Name != "raw" && (done.Zeros+done.Same == 0 || total(f, c) >= before) { // zeros are holes in a crashfs
				t.Errorf("%+v: %d bytes, %d before", done, total(f, c), before)
			}
			unmoved(t, f, c)
			n := total(f, c)
			again, err := compact(t.Context(), f, c.Open, nil)
			if err != nil || again.Zeros+again.Same+again.Punched != 0 || total(f, c) != n {
				t.Errorf("once more: %+v, %v, %d bytes, %d before", again, err, total(f, c), n)
			}
		})
	}
}

// infoOf is what the topmost image of a chain says of itself.
func infoOf(t *testing.T, fsys storage.FS, path string, o vdcore.Options) (info *vdcore.Info) {
	t.Helper()
	if err := with(fsys, path, o, func(chain *vdcore.Chain) error {
		info = chain.Top().Layer().Info()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return info
}

// identity is what children know an image by.
func identity(t *testing.T, fsys storage.FS, path string) vdcore.Identity {
	t.Helper()
	return infoOf(t, fsys, path, vdcore.Options{}).Identity
}

// unmoved compares the parents.
func unmoved(t *testing.T, f *crashfs.FS, c vdtest.WriteCase) {
	t.Helper()
	for path, want := range c.Files {
		if path != c.Open && !slices.Contains(c.Parts, path) && !bytes.Equal(f.Bytes(path), want) {
			t.Errorf("the parent %s changed", path)
		}
	}
}

// TestCompactStopped stops at every step: the image is sound, and in the end compact.
func TestCompactStopped(t *testing.T) {
	for _, c := range compactCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			f := onDisk(c.Files)
			stops := 0
			for k := 1; ; k++ {
				ctx, cancel := context.WithCancel(t.Context())
				steps := 0
				_, err := compact(ctx, f, c.Open, func(int64, int64) {
					if steps++; steps == k {
						cancel()
					}
				})
				cancel()
				got, cerr := content(f, c.Open, true)
				if cerr != nil || !bytes.Equal(got, c.Flat) {
					t.Fatalf("stopped at %d: %v", k, cerr)
				}
				if err == nil {
					break
				}
				if stops++; !errors.Is(err, context.Canceled) {
					t.Fatalf("stopped at %d: %v", k, err)
				}
			}
			if _, err := content(f, c.Open, false); err != nil {
				t.Error(err)
			}
			t.Logf("stopped %d times", stops)
		})
	}
}

// TestCompactCrash lets the power go at every operation.
func TestCompactCrash(t *testing.T) {
	vdtest.Loop(t)
	for _, c := range compactCases(t) {
		vdtest.CrashOperation(t, vdtest.Operation{
			Name: "compact " + c.Name, Files: c.Files,
			Do: func(fsys storage.FS) error {
				_, err := compact(context.Background(), fsys, c.Open, nil)
				return err
			},
			Look: func(fsys storage.FS, done bool) error {
				got, err := content(fsys, c.Open, !done)
				if err == nil && !bytes.Equal(got, c.Flat) {
					err = errors.New("the content changed")
				}
				return err
			},
		}, vdtest.CrashOptions{MaxCuts: imgops.Cuts(int64(len(c.Flat))), Survivors: 4})
	}
}
