package imgops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Snapshot makes a new differencing image at path on top of base, whose files are
// only read. The extension of path decides the format. What was made is opened
// again, to see that it leads to base, and removed when it does not.
func Snapshot(base *vdcore.Chain, path string) (err error) {
	top := base.Top().Layer()
	if _, err := os.Lstat(top.Path); errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%s: %w: it is part of an archive, where no child finds its parent; unpack the archive (tar -xf)", top.Path, vdcore.ErrUnsupported)
	}
	if path, err = resolveNew(path); err != nil {
		return err
	}
	b, err := creator(path, vdcore.CapDiff)
	if err != nil {
		return err
	}
	host, err := storage.NewOS(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	if err := b.Create(context.Background(), vdcore.CreateArgs{
		FS: host, Path: path, Capacity: top.Info().Capacity, UUID: uuid.New(),
		Parent: &vdcore.CreateParent{Info: top.Info(), Hint: hint(top.Path, path)},
	}); err != nil {
		return err
	}
	if err := verify(base, path); err != nil {
		err = fmt.Errorf("%s was made and removed again, because it did not open as it should: %w", path, err)
		return errors.Join(err, host.Remove(path))
	}
	return nil
}

// hint is the parent's name as a child stores it: relative where a parent is looked
// for without further options, that is below the child's folder and below the one
// above, so that a folder can be moved with its images; else absolute.
func hint(parent, child string) string {
	rel, err := filepath.Rel(filepath.Dir(child), parent)
	if err != nil || !filepath.IsLocal(strings.TrimPrefix(rel, "../")) {
		return parent
	}
	return rel
}

// verify opens the image at path and sees that it stands on base.
func verify(base *vdcore.Chain, path string) error {
	c, err := vdcore.Open(path, above(base))
	if err != nil {
		return err
	}
	return errors.Join(standsOn(c, base), c.Close())
}

// above are the options to open an image on top of base with: its files are found
// wherever they lie.
func above(base *vdcore.Chain) vdcore.Options {
	o, top := base.Options(), base.Top().Layer()
	o.Format = "" // was base's
	o.Parents = append([]string{top.Path}, o.Parents...)
	o.Search = slices.Concat(o.Search, folders(base))
	o.AllowModifiedParent = o.AllowModifiedParent || !HasIdentity(top.Info())
	return o
}

// folders are those the layers of a chain lie in.
func folders(c *vdcore.Chain) (list []string) {
	for _, l := range c.Layers() {
		if dir := filepath.Dir(l.Path); !slices.Contains(list, dir) {
			list = append(list, dir)
		}
	}
	return list
}

// HasIdentity reports whether a child can tell the image from another one.
func HasIdentity(i *vdcore.Info) bool { return i.UUID != uuid.Nil || i.HasCID }

// standsOn fails unless c is one image on top of base.
func standsOn(c, base *vdcore.Chain) error {
	top, below := c.Top().Layer(), base.Top().Layer()
	if top.Index == 0 {
		return fmt.Errorf("%s: %w: it is no differencing image, so it is not based on %s", top.Path, vdcore.ErrMismatch, below.Path)
	}
	parent := c.Layers()[top.Index-1]
	switch p, b := parent.Info(), below.Info(); {
	case parent.Path != below.Path:
		return fmt.Errorf("%s: %w: it is based on %s, not on %s", top.Path, vdcore.ErrMismatch, parent.Path, below.Path)
	case p.Format != b.Format:
		return fmt.Errorf("%s: %w: a child takes it for a %s image, not for a %s image, whatever --format says",
			below.Path, vdcore.ErrUnsupported, p.Format, b.Format)
	case top.Info().Capacity != b.Capacity:
		return fmt.Errorf("%s: %w: it shows %d bytes, and %s has %d",
			top.Path, vdcore.ErrMismatch, top.Info().Capacity, below.Path, b.Capacity)
	}
	return nil
}
