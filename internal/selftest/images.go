package selftest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

// image is a chain that is tried.
type image struct {
	path  string
	files []file
	// hashes has the digests of the files and of the disk of every layer, as this
	// process reads them.
	hashes imgops.ManifestImage
}

// file is a file of a chain as it was before the mount.
type file struct {
	path string
	stat unix.Stat_t
}

// diskSize is that of the images that are made, bytes.
const diskSize = 8 << 20

// prepare makes images, or takes the one that was named. remove takes back what was
// made.
func (t *trial) prepare() (remove func() error, err error) {
	nothing := func() error { return nil }
	st, err := os.Stat(t.Where)
	if err != nil {
		return nothing, err
	}
	if !st.IsDir() {
		t.images = []*image{{path: t.Where}}
		return nothing, nil
	}
	dir, err := os.MkdirTemp(t.Where, "vdfs-selftest-")
	if errors.Is(err, unix.EROFS) {
		return nothing, fmt.Errorf("%w; name an image in it instead of the folder", err)
	}
	if err != nil {
		return nothing, err
	}
	return func() error { return os.RemoveAll(dir) }, t.make(dir)
}

// make makes a chain of two dynamic images, which the kernel may read by a map, and one
// flat image, which it may read itself.
func (t *trial) make(dir string) error {
	base, top, flat := filepath.Join(dir, "base.vdi"), filepath.Join(dir, "top.vdi"), filepath.Join(dir, "flat.vmdk")
	if err := imgops.Create(context.Background(), base, imgops.CreateOptions{Capacity: diskSize}, nil); err != nil {
		return err
	}
	if err := fill(base, 1); err != nil {
		return err
	}
	chain, err := vdcore.Open(base, vdcore.Options{})
	if err != nil {
		return err
	}
	if err := errors.Join(imgops.Snapshot(chain, top), chain.Close()); err != nil {
		return err
	}
	if err := fill(top, 2); err != nil {
		return err
	}
	if err := imgops.Create(context.Background(), flat, imgops.CreateOptions{Capacity: diskSize, Variant: "flat"}, nil); err != nil {
		return err
	}
	t.images = []*image{{path: top}, {path: flat}}
	return fill(flat, 3)
}

// fill writes noise to some places of an image.
func fill(path string, seed byte) error {
	chain, err := vdcore.Open(path, vdcore.Options{Write: true})
	if err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{seed})
	p := make([]byte, 1<<20)
	for _, at := range []int64{0, int64(seed) << 20, 5<<20 + 4096} {
		noise.Read(p)
		if _, err := chain.Top().WriteAt(p, at); err != nil {
			return errors.Join(err, chain.Close())
		}
	}
	return chain.Close()
}

// before notes what the files of all images are.
func (t *trial) before(ctx context.Context) error {
	for _, i := range t.images {
		chain, err := vdcore.Open(i.path, vdcore.Options{})
		if err != nil {
			return err
		}
		for _, l := range chain.Layers() {
			for _, f := range l.Image.Files() {
				var st unix.Stat_t
				if serr := unix.Stat(f.Path(), &st); serr != nil {
					return errors.Join(serr, chain.Close())
				}
				i.files = append(i.files, file{f.Path(), st})
			}
		}
		i.hashes, err = hashes(ctx, chain)
		if err = errors.Join(err, chain.Close()); err != nil {
			return err
		}
	}
	return nil
}

func hashes(ctx context.Context, chain *vdcore.Chain) (imgops.ManifestImage, error) {
	m, err := imgops.Hash(ctx, []*vdcore.Chain{chain}, imgops.HashOptions{Algorithms: []string{imgops.DefaultAlgorithm}, Disks: imgops.AllDisks})
	if err != nil {
		return imgops.ManifestImage{}, err
	}
	return m.Images[0], nil
}

// property is something of a file that must stay.
type property struct {
	name string
	is   func(*unix.Stat_t) any
}

var properties = []property{
	{"size", func(st *unix.Stat_t) any { return st.Size }},
	{"mode and owner", func(st *unix.Stat_t) any { return [3]uint32{st.Mode, st.Uid, st.Gid} }},
	{"identity", func(st *unix.Stat_t) any { return [2]uint64{st.Dev, st.Ino} }},
	{"access time", func(st *unix.Stat_t) any { return st.Atim }},
	{"modification time", func(st *unix.Stat_t) any { return st.Mtim }},
	{"change time", func(st *unix.Stat_t) any { return st.Ctim }},
}

// after compares the files with what they were, and looks for what is left.
func (t *trial) after(ctx context.Context) error {
	for _, p := range properties {
		t.tell("image files: "+p.name, "as before", t.compare(p)...)
	}
	var faults []string
	n := 0
	for _, i := range t.images {
		chain, err := vdcore.Open(i.path, vdcore.Options{})
		if err != nil {
			return err
		}
		now, err := hashes(ctx, chain)
		if err = errors.Join(err, chain.Close()); err != nil {
			return err
		}
		for l, layer := range now.Layers {
			for f, file := range layer.Files {
				n++
				if was := i.hashes.Layers[l].Files[f].Digests[imgops.DefaultAlgorithm]; was != file.Digests[imgops.DefaultAlgorithm] {
					faults = append(faults, file.File+" changed")
				}
			}
		}
	}
	t.tell("image files: content", fmt.Sprintf("SHA-256 of %d files as before", n), faults...)
	t.left()
	return nil
}

// compare names the files of which a property has changed.
func (t *trial) compare(p property) (faults []string) {
	for _, i := range t.images {
		for _, f := range i.files {
			var st unix.Stat_t
			err := unix.Stat(f.path, &st)
			switch was := p.is(&f.stat); {
			case err != nil:
				faults = append(faults, fmt.Sprintf("%s: %v", f.path, err))
			case p.is(&st) != was:
				faults = append(faults, fmt.Sprintf("%s: was %v and is %v", filepath.Base(f.path), was, p.is(&st)))
			}
		}
	}
	return faults
}

// errnoName is the short name of an error.
func errnoName(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return strings.TrimSpace(fmt.Sprint(err))
}
