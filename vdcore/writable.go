package vdcore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// becomeWritable checks that writing to the topmost image harms nothing, and makes
// it possible.
func (c *Chain) becomeWritable() error {
	for _, step := range []func() error{c.refuseUnsound, c.refuseParent, c.refuseSavedState} {
		if err := step(); err != nil {
			return err
		}
	}
	top := c.layers[len(c.layers)-1]
	img, ok := top.Image.(Writer)
	if !ok {
		return fmt.Errorf("%s: %w: %s images are not written; --overlay FILE puts a differencing image on top", top.Path, ErrReadOnly, top.Info().Format)
	}
	c.writer = newWriter(c, img)
	c.writer.disk = c.Top()
	return nil
}

// Unsound is the refusal to write to an image that is damaged, or lacks a file: why
// wraps ErrCorrupt or ErrMissing, and says so to whoever asks for the sentinel.
func Unsound(why error) error {
	if errors.Is(why, ErrMissing) {
		return fmt.Errorf("%w; it is %w until that is back", why, ErrReadOnly)
	}
	return fmt.Errorf("%w; it is %w until vdfs check --repair has mended that", why, ErrReadOnly)
}

// refuseUnsound: what is written over a wrong or missing parent would be right
// nowhere.
func (c *Chain) refuseUnsound() error {
	if c.opts.FillZero {
		return fmt.Errorf("%w: zeros made up for what cannot be read would be written for good", ErrReadOnly)
	}
	for _, l := range c.layers {
		switch {
		case l.Link.Verdict == LinkMissing:
			return Unsound(fmt.Errorf("%s: its parent is %w, and what is not there cannot be filled in", l.Path, ErrMissing))
		case len(l.Info().Damage) > 0:
			return Unsound(fmt.Errorf("%s: %w", l.Path, l.Info().Damage[0].Err))
		case l.Link.Verdict == LinkModified && !c.opts.AllowModifiedParent:
			return fmt.Errorf("%w: %s; it is not written to, unless --allow-modified-parent says that it is right", ErrMismatch, l.Link.Note)
		}
	}
	return nil
}

// refuseParent: an image others were made from must stay as it is.
func (c *Chain) refuseParent() error {
	if c.opts.BreakChildren {
		return nil
	}
	child, err := c.Child()
	if err != nil || child == "" {
		return err
	}
	return fmt.Errorf("%s: %w as parent of %s, which would be wrong after any change; write to a snapshot of it (vdfs snapshot, or --overlay), or give the other up with --break-children",
		c.layers[len(c.layers)-1].Path, ErrInUse, child)
}

// Child names an image that was made from the topmost one, "" when none is found. What
// cannot be read nearby is a warning.
func (c *Chain) Child() (string, error) {
	top := c.layers[len(c.layers)-1]
	fd := newFinder(c)
	q := quest{finder: fd, child: top.candidate()}
	merging := candidate{info: &Info{}}
	if c.opts.MergeChild != "" {
		if merging = fd.peek(c.opts.MergeChild); merging.err != nil {
			return "", merging.err
		}
	}
	for _, dir := range q.dirs() {
		for _, x := range fd.list(dir) {
			switch {
			case x.err != nil:
				c.warn("%s cannot be read (%v), so it is not known whether it was made from %s", x.path, x.err, top.Path)
			case x.id != top.id && x.id != merging.id && descends(x.info.Parent, top):
				return x.path, nil
			}
		}
	}
	for _, reg := range q.registriesNear() {
		if reg.err != nil {
			c.warn("%s: %v, so it is not known what was made from %s", reg.path, reg.err, top.Path)
		}
		if child := reg.childOf(top.Info().UUID, merging.info.UUID); child != "" {
			return fmt.Sprintf("%s (says %s)", child, reg.path), nil
		}
	}
	return "", nil
}

// descends reports whether a child's reference means the image. A CID alone is
// weak, so the stored name must fit too; of a plain disk the name is all there is.
func descends(ref *ParentRef, l *Layer) bool {
	g := grower{}
	if ref != nil && ref.UUID == uuid.Nil && ref.CID == NoParentCID && l.Info().UUID == uuid.Nil && !l.Info().HasCID {
		return filepath.Base(strings.ReplaceAll(ref.Hint, "\\", "/")) == filepath.Base(l.Path)
	}
	return g.isChild(ref, &Tree{Path: l.Path, Info: l.Info()})
}

// Registered returns the path of a VirtualBox machine file nearby that lists the
// topmost image as a medium, "" when there is none.
func (c *Chain) Registered() string {
	top := c.layers[len(c.layers)-1]
	q := quest{finder: newFinder(c), child: top.candidate()}
	for _, reg := range q.registriesNear() {
		if reg.location(top.Info().UUID) != "" {
			return reg.path
		}
	}
	return ""
}

// refuseSavedState: a machine that was put to sleep goes on with the disk as it
// knows it.
func (c *Chain) refuseSavedState() error {
	if c.opts.BreakChildren {
		return nil
	}
	top := c.layers[len(c.layers)-1]
	q := quest{finder: newFinder(c), child: top.candidate()}
	for _, reg := range q.registriesNear() {
		if reg.Saved && reg.location(top.Info().UUID) != "" && reg.IsAttached(top.Info().UUID) {
			return fmt.Errorf("%s: %w: the machine of %s has a saved state, which goes on with this disk as it is; discard the state, or write to a snapshot (--overlay)", top.Path, ErrInUse, reg.path)
		}
	}
	return nil
}

// registriesNear reads the .vbox files in the image's folder and the one above.
func (q *quest) registriesNear() []mediaRegistry {
	var list []mediaRegistry
	if q.child.info.UUID == uuid.Nil {
		return nil
	}
	own := filepath.Dir(q.child.path)
	for _, dir := range []string{own, filepath.Dir(own)} {
		for _, path := range q.registryFiles(dir) {
			list = append(list, q.registry(path))
		}
	}
	return list
}

// Renew gives the topmost image a new identity, as before a first write. The chain
// was opened with Options.Write.
func (c *Chain) Renew() error {
	if c.writer == nil {
		return c.Top().refuse()
	}
	return c.writer.begin()
}
