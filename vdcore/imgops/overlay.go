package imgops

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore"
)

// OpenOverlay opens the image at path, a differencing one directly on top of base,
// for writing. base stays open, and as it is.
func OpenOverlay(base *vdcore.Chain, path string) (*vdcore.Chain, error) {
	if err := checkOverlay(base, path); err != nil {
		return nil, err
	}
	o := above(base)
	o.Write = true
	c, err := vdcore.Open(path, o)
	if err != nil {
		return nil, err
	}
	if err := standsOn(c, base); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// checkOverlay looks at the image alone, before anything is opened for writing.
func checkOverlay(base *vdcore.Chain, path string) error {
	o := base.Options()
	c, err := vdcore.Open(path, vdcore.Options{Alone: true, Search: o.Search})
	if err != nil {
		return err
	}
	top, below := c.Top().Layer(), base.Top().Layer()
	ref := top.Info().Parent
	switch {
	case ref == nil:
		err = fmt.Errorf("%s: %w: it has no parent, so it cannot take the writes to %s; name a differencing image of that, or a new file",
			top.Path, vdcore.ErrMismatch, below.Path)
	case !means(ref, below) && !o.AllowModifiedParent:
		wanted := &vdcore.ParentRef{Hint: below.Path, UUID: below.Info().UUID, CID: vdcore.NoParentCID}
		if below.Info().HasCID {
			wanted.CID = below.Info().CID
		}
		err = fmt.Errorf("%s: %w: it is based on %s, not on %s; take a new file, or the image it is based on",
			top.Path, vdcore.ErrMismatch, describe(ref), describe(wanted))
	}
	return errors.Join(err, c.Close())
}

// means reports whether a reference is to the image of a layer. A child of a plain
// disk has recorded nothing but the name.
func means(ref *vdcore.ParentRef, l *vdcore.Layer) bool {
	info := l.Info()
	switch {
	case ref.UUID != uuid.Nil:
		return ref.UUID == info.UUID
	case HasIdentity(info):
		return info.HasCID && ref.CID == info.CID
	}
	return ref.CID == vdcore.NoParentCID && filepath.Base(strings.ReplaceAll(ref.Hint, "\\", "/")) == filepath.Base(l.Path)
}

// describe is the name and the identity of a parent.
func describe(ref *vdcore.ParentRef) string {
	switch {
	case ref.UUID != uuid.Nil && ref.Hint == "":
		return fmt.Sprintf("the image of UUID %s", ref.UUID)
	case ref.UUID != uuid.Nil:
		return fmt.Sprintf("%q (UUID %s)", ref.Hint, ref.UUID)
	case ref.CID != vdcore.NoParentCID:
		return fmt.Sprintf("%q (CID %08x)", ref.Hint, ref.CID)
	}
	return fmt.Sprintf("%q", ref.Hint)
}
