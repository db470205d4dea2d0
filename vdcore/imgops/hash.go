package imgops

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
	"unicode/utf8"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// HashDisks says of which flat disks hashes are wanted.
type HashDisks int

const (
	TopDisk  HashDisks = iota // as the topmost image shows it
	AllDisks                  // as each layer shows it
	NoDisk
)

// HashOptions say what is to be hashed, and how.
type HashOptions struct {
	Algorithms []string // of Algorithms
	Disks      HashDisks
	Version    string // of this program, for the manifest
	Progress   Progress
}

// Hash hashes every file of the chains, and flat disks; every content is read once. A
// file that changed meanwhile is a storage.ErrChanged.
func Hash(ctx context.Context, chains []*vdcore.Chain, o HashOptions) (*Manifest, error) {
	m := &Manifest{Kind: manifestKind, Schema: manifestSchema, Version: o.Version, Created: time.Now().UTC().Truncate(time.Second)}
	h := &hashing{files: map[string]*content{}}
	for _, c := range chains {
		h.add(c, o.Disks)
	}
	if h.err != nil {
		return nil, h.err
	}
	if err := hashAll(ctx, h.contents, o.Algorithms, o.Progress); err != nil {
		return nil, err
	}
	for _, c := range chains {
		i, err := h.image(c)
		if err != nil {
			return nil, err
		}
		m.Images = append(m.Images, i)
	}
	return m, nil
}

// hashing are the contents of several chains.
type hashing struct {
	contents []*content
	files    map[string]*content // by path; layers, and chains, may share them
	disks    map[*vdcore.Layer]*content
	err      error // of looking at files
}

func (h *hashing) add(c *vdcore.Chain, disks HashDisks) {
	for i, l := range c.Layers() {
		for _, f := range l.Image.Files() {
			h.addFile(f)
		}
		if disks == AllDisks || disks == TopDisk && l == c.Top().Layer() {
			h.addDisk(l, c.Disk(i))
		}
	}
}

func (h *hashing) addFile(f storage.File) {
	if h.files[f.Path()] != nil {
		return
	}
	st, err := storage.Opened(f)
	if err != nil && h.err == nil {
		h.err = err
	}
	c := fileContent(f, st.Size)
	h.files[f.Path()], h.contents = c, append(h.contents, c)
}

func (h *hashing) addDisk(l *vdcore.Layer, d *vdcore.Disk) {
	if h.disks == nil {
		h.disks = map[*vdcore.Layer]*content{}
	}
	c := diskContent(d)
	h.disks[l], h.contents = c, append(h.contents, c)
}

// image is what a manifest has of a chain.
func (h *hashing) image(c *vdcore.Chain) (ManifestImage, error) {
	top := c.Top().Layer().Path
	image := ManifestImage{Image: filepath.Base(top)}
	for _, l := range c.Layers() {
		d := l.Describe()
		layer := ManifestLayer{Format: d.Format, Capacity: d.Capacity, UUIDs: d.UUIDs}
		if disk := h.disks[l]; disk != nil {
			layer.Disk = disk.sums
		}
		for _, f := range l.Image.Files() {
			file, err := h.file(f, filepath.Dir(top))
			if err != nil {
				return image, err
			}
			layer.Files = append(layer.Files, file)
		}
		image.Layers = append(image.Layers, layer)
	}
	return image, nil
}

func (h *hashing) file(f storage.File, folder string) (ManifestFile, error) {
	rel, err := filepath.Rel(folder, f.Path())
	if err != nil {
		return ManifestFile{}, err
	}
	st, err := unchanged(f)
	if err != nil {
		return ManifestFile{}, err
	}
	return ManifestFile{
		File: rel, Size: st.Size, Modified: st.Modified.UTC(), Changed: st.Changed.UTC(),
		Device: st.ID.Dev, Inode: st.ID.Ino, Digests: h.files[f.Path()].sums,
	}, nil
}

// unchanged is what a file was when it was opened, and must be still.
func unchanged(f storage.File) (storage.Stat, error) {
	was, err := storage.Opened(f)
	if err != nil {
		return was, err
	}
	is, err := f.Stat()
	if err == nil && !is.Same(was) {
		err = fmt.Errorf("%s: changed while it was read: %w", f.Path(), storage.ErrChanged)
	}
	return was, err
}

// RefuseManifest says why no manifest of the chains can be written to path: it is one
// of their files, or there already and not to be replaced (fs.ErrExist), or two of them
// would have the same name in it.
func RefuseManifest(chains []*vdcore.Chain, path string, force bool) error {
	names := map[string]bool{}
	for _, c := range chains {
		if err := refuseSource(c, path); err != nil {
			return err
		}
		name := filepath.Base(c.Top().Layer().Path)
		if names[name] {
			return fmt.Errorf("two images named %s in one manifest: %w; write one for each", name, vdcore.ErrUnsupported)
		}
		names[name] = true
		if err := refuseNames(c); err != nil {
			return err
		}
	}
	if exists(path) && !force {
		return fmt.Errorf("%s: %w; --force replaces it", path, fs.ErrExist)
	}
	return nil
}

// refuseNames refuses a chain with a file whose name JSON cannot hold.
func refuseNames(c *vdcore.Chain) error {
	for _, l := range c.Layers() {
		for _, f := range l.Image.Files() {
			if !utf8.ValidString(f.Path()) {
				return fmt.Errorf("%q: %w: a manifest has names in UTF-8", f.Path(), vdcore.ErrUnsupported)
			}
		}
	}
	return nil
}
