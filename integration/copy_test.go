package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	_ "vdfs/formats/all"
	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/vdtest"
)

// reflinks mounts a file system of our own where files can share blocks, and where
// every access time shows that a file was read.
func reflinks(t *testing.T) string {
	t.Helper()
	needRoot(t)
	needTool(t, "losetup")
	dir := t.TempDir()
	img, mnt := filepath.Join(dir, "fs.img"), filepath.Join(dir, "xfs")
	writeFile(t, img, nil)
	if err := errors.Join(os.Truncate(img, 1<<30), os.Mkdir(mnt, 0o755)); err != nil {
		t.Fatal(err)
	}
	tool(t, "mkfs.xfs", "-q", "-m", "reflink=1", img)
	if r := command(t, nil, "mount", "-o", "loop,strictatime", img, mnt); r.code != 0 {
		skip(t, "cannot mount a file system of our own: %s", r.stderr)
	}
	t.Cleanup(func() {
		if r := command(noContext{t}, nil, "umount", mnt); r.code != 0 {
			t.Errorf("umount %s: %s", mnt, r.stderr)
		}
		if left := command(noContext{t}, nil, "losetup", "-j", img).stdout; left != "" {
			t.Errorf("still attached: %s", left)
		}
	})
	return mnt
}

// fragments counts the extents of a file, and those of them other files share.
func fragments(t *testing.T, path string) (all, shared int) {
	t.Helper()
	for line := range strings.Lines(tool(t, "filefrag", "-v", path)) {
		n, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if n == "" || strings.Trim(n, "0123456789") != "" {
			continue
		}
		all++
		if strings.Contains(rest, "shared") {
			shared++
		}
	}
	return all, shared
}

// stored is how much of a disk the chain has blocks for, in whole blocks of 4 KiB.
func stored(t *testing.T, image string) (size int64) {
	t.Helper()
	var m struct {
		Extents []struct {
			Start, Length int64
			Data          bool
		}
	}
	if err := json.Unmarshal([]byte(must(t, "map", "--json", image)), &m); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.Extents {
		if e.Data {
			size += (e.Start+e.Length+4095)&^4095 - e.Start&^4095
		}
	}
	return size
}

// TestCopyShares: on a file system with reflinks, a copy has the blocks of the
// images where they are aligned, the right content everywhere, and holes; and
// nothing shows on the images, access times included.
func TestCopyShares(t *testing.T) {
	dir := reflinks(t)
	for archive, want := range map[string]string{
		"demo.tar.gz":        "all",
		"vmdk-flat.tar.gz":   "all",
		"vmdk-diff3.tar.gz":  "all",
		"vdi-blocks.tar.gz":  "some", // disks of odd sizes
		"vdi-v0.tar.gz":      "none", // its blocks begin at no sector
		"vmdk-cowd.tar.gz":   "none", // tables of odd size before them
		"vmdk-stream.tar.gz": "none", // compressed
	} {
		for _, c := range vdtest.Cases(t) {
			if c.Archive != archive {
				continue
			}
			t.Run(c.Name(), func(t *testing.T) {
				home := filepath.Join(dir, t.Name())
				vdtest.Unpack(t, archive, home)
				image, out := filepath.Join(home, c.Layers[0].File), filepath.Join(dir, "out.raw")
				defer os.Remove(out)
				before := state(t, home, false)
				must(t, "copy", image, out)
				for p, is := range state(t, home, false) {
					if was := before[p]; is != was {
						t.Errorf("%s was %s and is %s", filepath.Base(p), was, is)
					}
				}
				all, shared := fragments(t, out)
				if got := map[bool]string{shared == all: "all", shared == 0: "none"}[true]; got != want && !(got == "" && want == "some") {
					t.Errorf("%d of %d extents are shared, want %s", shared, all, want)
				}
				check(t, out, c.Layers[0].Capacity, c.Layers[0].SHA256)
				st, err := os.Stat(out)
				if err != nil {
					t.Fatal(err)
				}
				if got, most := st.Sys().(*syscall.Stat_t).Blocks*512, stored(t, image); want != "none" && got > most {
					t.Errorf("the copy takes %d bytes, %d are stored", got, most)
				}
			})
		}
	}
}

// TestCopySharesRagged: of extents that begin and end inside blocks, what is whole
// blocks is shared and the rest copied; one lies inside a single block.
func TestCopySharesRagged(t *testing.T) {
	dir := reflinks(t)
	content := make([]byte, 16<<20)
	fsxFill(content, 0, 0)
	lines, off := "", int64(0)
	for n, end := range []int64{8<<20 + 1536, 8<<20 + 2560, 16 << 20} {
		name, from := fmt.Sprintf("disk-f%03d.vmdk", n), off%4096
		writeFile(t, filepath.Join(dir, name), append(make([]byte, from), content[off:end]...))
		lines += fmt.Sprintf("RW %d FLAT \"%s\" %d\n", (end-off)/512, name, from/512)
		off = end
	}
	image, out := filepath.Join(dir, "disk.vmdk"), filepath.Join(dir, "out")
	writeFile(t, image, []byte("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"+
		"createType=\"twoGbMaxExtentFlat\"\n\n"+lines))
	must(t, "copy", image, out)
	same(t, out, content)
	if all, shared := fragments(t, out); shared < 2 || all-shared != 1 {
		t.Errorf("%d of %d extents are shared", shared, all)
	}
}

// TestCopySharesRandom: chains made at random, whatever lies where in them, copied
// to where blocks can be shared and to another file system.
func TestCopySharesRandom(t *testing.T) {
	seed := fsxSeed(t)
	dir := reflinks(t)
	for _, kind := range []diskKind{{"vdi", 3}, {"vmdk", 2}, {"flat", 1}, {"raw", 1}} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Logf("VDFS_FSX_SEED=%d", seed)
			home := filepath.Join(dir, kind.format)
			if err := os.Mkdir(home, 0o755); err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(home)
			d := newRawDisk(t, rand.New(rand.NewPCG(seed, 0)), home, kind)
			for _, out := range []string{filepath.Join(home, "out"), filepath.Join(t.TempDir(), "out")} {
				must(t, "copy", d.path, out)
				same(t, out, d.content)
			}
		})
	}
}

// TestCopyLost: what the chain has lost is no hole in a copy that shares the rest,
// unless zeros are asked for.
func TestCopyLost(t *testing.T) {
	dir := reflinks(t)
	vdtest.Unpack(t, "demo.tar.gz", dir)
	top, out := filepath.Join(dir, "updated.vdi"), filepath.Join(dir, "out")
	if err := os.Remove(filepath.Join(dir, "base.vdi")); err != nil {
		t.Fatal(err)
	}
	if r := vdfs(t, "copy", "--allow-incomplete", top, out); r.code == 0 || !strings.Contains(r.stderr, "--fill=zero") {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the half-made copy: %v", err)
	}
	must(t, "copy", "--allow-incomplete", "--fill=zero", top, out)
	elsewhere := filepath.Join(t.TempDir(), "out")
	must(t, "copy", "--allow-incomplete", "--fill=zero", top, elsewhere)
	if a, b := sum(t, out), sum(t, elsewhere); a != b {
		t.Errorf("with --fill=zero the copy reads %s, one on another file system %s", a, b)
	}
	if all, shared := fragments(t, out); all == 0 || shared != all {
		t.Errorf("%d of %d extents are shared", shared, all)
	}
}

// TestCopyCutOff: an image that becomes shorter behind an open chain is an error,
// with blocks shared and without, wherever the cut lies.
func TestCopyCutOff(t *testing.T) {
	for name, dir := range map[string]string{"shared": reflinks(t), "copied": t.TempDir()} {
		for _, size := range []int64{3<<20 + 5*4096, 3<<20 + 5*4096 + 512} {
			for _, cut := range []int64{0, 1<<20 - 1, 1 << 20, size - 4096, size - 512, size - 1} {
				err := copyCutOff(t, dir, size, cut)
				if !errors.Is(err, vdcore.ErrCorrupt) || !strings.Contains(err.Error(), "shorter than when it was opened") {
					t.Errorf("%s, %d bytes cut to %d: %v", name, size, cut, err)
				}
			}
		}
	}
}

// copyCutOff copies an image that was cut after it was opened.
func copyCutOff(t *testing.T, dir string, size, cut int64) error {
	t.Helper()
	path, out := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "out")
	content := make([]byte, size)
	fsxFill(content, 0, 0)
	writeFile(t, path, content)
	chain, err := vdcore.Open(path, vdcore.Options{Format: "raw"})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	_, err = chain.Top().Allocated() // the map is made, or it would find out
	if err = errors.Join(err, os.Truncate(path, cut)); err != nil {
		t.Fatal(err)
	}
	_, err = imgops.Convert(t.Context(), chain, out, imgops.Conversion{Format: "raw"})
	if _, left := os.Stat(out); !errors.Is(left, fs.ErrNotExist) {
		t.Errorf("cut to %d: the half-made copy: %v", cut, left)
		os.Remove(out)
	}
	return err
}

// TestCopyProgress: sharing is counted as copying is, and ends when it is cancelled.
func TestCopyProgress(t *testing.T) {
	for name, dir := range map[string]string{"shared": reflinks(t), "copied": t.TempDir()} {
		vdtest.Unpack(t, "demo.tar.gz", dir)
		chain, err := vdcore.Open(filepath.Join(dir, "updated.vdi"), vdcore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer chain.Close()
		d, out := chain.Top(), filepath.Join(dir, "out")
		last := int64(0)
		copied := func(ctx context.Context, progress imgops.Progress) error {
			_, err := imgops.Convert(ctx, chain, out, imgops.Conversion{Format: "raw", Progress: progress})
			return err
		}
		err = copied(t.Context(), func(done, total int64) {
			if done < last || total != d.Capacity() {
				t.Errorf("%s: %d of %d after %d", name, done, total, last)
			}
			last = done
		})
		if err != nil || last != d.Capacity() {
			t.Errorf("%s: ended at %d of %d, %v", name, last, d.Capacity(), err)
		}
		os.Remove(out)

		ctx, cancel := context.WithCancel(t.Context())
		err = copied(ctx, func(done, _ int64) { last = done; cancel() })
		if !errors.Is(err, context.Canceled) || last == d.Capacity() {
			t.Errorf("%s: cancelled at %d: %v", name, last, err)
		}
		if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the half-made copy: %v", name, err)
		}
	}
}
