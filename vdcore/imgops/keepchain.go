package imgops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// ConvertChain makes an image in dir for each layer of a chain, the base first: each
// holds what its layer holds itself, in whole blocks, and has the one before as
// parent. They have the names of the layers and new identities. The folder is made if
// it is not there; existing files are never touched. All is on disk when ConvertChain
// returns, unless o.NoSync; after an error, or when ctx ends, nothing of it is left.
func ConvertChain(ctx context.Context, c *vdcore.Chain, dir string, o Conversion) (made []Made, err error) {
	switch err := os.Mkdir(dir, 0o777); {
	case err == nil:
		defer func() {
			if made == nil {
				err = errors.Join(err, os.Remove(dir))
			}
		}()
	case !errors.Is(err, os.ErrExist):
		return nil, err
	}
	if dir, err = storage.Resolve(dir); err != nil {
		return nil, err
	}
	host, err := storage.NewOS(filepath.Join(dir, "image"))
	if err != nil {
		return nil, err
	}
	made, err = convertChain(ctx, host, c, dir, o)
	return made, errors.Join(err, host.Close())
}

// convertChain is ConvertChain on any file system.
func convertChain(ctx context.Context, fsys storage.FS, c *vdcore.Chain, dir string, o Conversion) ([]Made, error) {
	b, err := vdcore.Lookup(o.Format)
	switch {
	case err != nil:
		return nil, err
	case b.Capabilities()&vdcore.CapDiff == 0, o.Variant != "":
		return nil, fmt.Errorf("a chain of %s images of variant %q: %w; differencing images are VDI or VMDK, of their usual variant", b.Name, o.Variant, vdcore.ErrUnsupported)
	}
	m := &maker{ctx: ctx, fs: o.on(fsys), backend: b, o: o, count: &counter{report: o.Progress}}
	for _, l := range c.Layers() {
		m.count.total += l.Info().Capacity
	}
	if err := m.chain(c, dir); err != nil {
		return nil, errors.Join(err, m.remove())
	}
	return m.made, nil
}

// chain makes an image of each layer.
func (m *maker) chain(c *vdcore.Chain, dir string) error {
	var parent *vdcore.CreateParent
	names := layerNames(c, m.backend.Extensions[0])
	for i, l := range c.Layers() {
		path, d := filepath.Join(dir, names[i]), c.Disk(i)
		if err := refuseSource(c, path); err != nil {
			return err
		}
		args, err := m.args(d, path, parent)
		if err != nil {
			return err
		}
		sum, info, err := m.image(d, args)
		if err == nil && parent != nil && m.o.Checksum {
			sum, err = m.hash(d)
		}
		if err != nil {
			return err
		}
		m.made = append(m.made, Made{Path: path, Padded: args.Capacity - l.Info().Capacity, SHA256: sum})
		parent = &vdcore.CreateParent{Info: info, Hint: names[i]}
	}
	return m.verify(c, filepath.Join(dir, names[len(names)-1]))
}

// layerNames names a new image after each layer, and a number where several have one
// name.
func layerNames(c *vdcore.Chain, ext string) (names []string) {
	for _, l := range c.Layers() {
		name := l.Name()
		for n := 2; slices.ContainsFunc(names, func(s string) bool { return strings.EqualFold(s, name+ext) }); n++ {
			name = fmt.Sprintf("%s-%d", l.Name(), n)
		}
		names = append(names, name+ext)
	}
	return names
}

// hash computes the checksum of a disk of which only a part is brought anywhere.
func (m *maker) hash(d *vdcore.Disk) ([]byte, error) {
	t := newTransfer(d, nowhere{}, &counter{}, true)
	err := t.run(m.ctx)
	return t.checksum(), err
}

// nowhere takes everything and keeps nothing.
type nowhere struct{}

func (nowhere) unit() int64              { return 1 }
func (nowhere) zeros() bool              { return false }
func (nowhere) load() load               { return nowhere{} }
func (nowhere) pack([]byte, piece) error { return nil }
func (nowhere) turn([]byte, piece) error { return nil }
func (nowhere) bring() error             { return nil }

// verify opens what was made, and sees that it is as many layers as its source.
func (m *maker) verify(c *vdcore.Chain, path string) error {
	made, err := vdcore.OpenFS(m.fs, path, vdcore.Options{})
	if err != nil {
		return fmt.Errorf("what was made does not open as it should: %w", err)
	}
	if got, want := len(made.Layers()), len(c.Layers()); got != want {
		err = fmt.Errorf("%s: %w: it was made as %d layers, and opens as %d", path, vdcore.ErrMismatch, want, got)
	}
	return errors.Join(err, made.Close())
}
