package imgops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	mergeSync = 256 << 20 // bytes written between two barriers
	mergeStep = 1 << 30   // guest bytes of the overlay mapped, or discarded, at a time
	copyChunk = 1 << 20   // bytes read at a time
)

// Merge writes what the topmost image of c holds into its parent and then removes
// it. c was opened with Options.Write, by which nobody uses the image and no other
// was made from it; Merge closes c. left names files that belong to the image and
// were not removed, because their names do not tell so.
//
// A crash at any point loses nothing: as long as the topmost image is there, what
// it holds hides whatever its parent holds there, so the disk stays the same, and
// merging again is repeating. It is removed once the parent is durable, the file
// that names the others first. Only then does the parent get a new identity, which
// would have cut off the image in between.
func Merge(ctx context.Context, c *vdcore.Chain, progress Progress) (left []string, err error) {
	host, err := storage.NewOS(c.Top().Layer().Path)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	left, err = newMerge(c, host, vdcore.Open).run(ctx, c, progress)
	return left, errors.Join(err, host.Close())
}

// MergeFS is Merge of a chain that was opened from fsys.
func MergeFS(ctx context.Context, fsys storage.FS, c *vdcore.Chain, progress Progress) (left []string, err error) {
	return newMerge(c, fsys, func(path string, o vdcore.Options) (*vdcore.Chain, error) {
		return vdcore.OpenFS(fsys, path, o)
	}).run(ctx, c, progress)
}

// opener opens a chain.
type opener func(path string, o vdcore.Options) (*vdcore.Chain, error)

// merge is one image on its way into its parent.
type merge struct {
	fs           storage.FS // the image's folder at least
	openChain    opener     // of the image and of its parent, which may lie elsewhere
	path, parent string
	identity     vdcore.Identity // of the parent, when it was checked
	opts         vdcore.Options  // for the parent
	over         *vdcore.Chain   // the image alone
	into         *vdcore.Chain   // the parent, for writing
}

func newMerge(c *vdcore.Chain, fsys storage.FS, open opener) *merge {
	m := &merge{fs: fsys, openChain: open, path: c.Top().Layer().Path, opts: c.Options()}
	m.opts.Search = slices.Concat(m.opts.Search, folders(c))
	m.opts.Write = true
	if n := len(c.Layers()); n > 1 {
		parent := c.Layers()[n-2]
		m.parent, m.identity, m.opts.Format = parent.Path, parent.Info().Identity, parent.Info().Format
	}
	return m
}

// run checks the chain, closes it and merges.
func (m *merge) run(ctx context.Context, c *vdcore.Chain, progress Progress) (left []string, err error) {
	if err := errors.Join(m.check(c), c.Close()); err != nil {
		return nil, err
	}
	if err := m.open(); err != nil {
		return nil, err
	}
	if err := errors.Join(m.copy(ctx, progress), m.into.Close()); err != nil {
		err = fmt.Errorf("%w; nothing is lost: %s still shows the whole disk, and the same command goes on", err, m.path)
		return nil, errors.Join(err, m.over.Close())
	}
	left, err = removeFiles(m.fs, m.over) // while its locks keep everybody else from writing to it
	if err = errors.Join(err, m.over.Close()); err != nil {
		return left, fmt.Errorf("%s is merged into %s, but not removed: %w", m.path, m.parent, err)
	}
	if err := m.renew(); err != nil {
		return left, fmt.Errorf("%s is merged into %s and removed, but that keeps its old identity: %w", m.path, m.parent, err)
	}
	return left, nil
}

// check says why the topmost image of c cannot be merged.
func (m *merge) check(c *vdcore.Chain) error {
	top := c.Top().Layer()
	if m.parent == "" {
		return fmt.Errorf("%s: %w: it has no parent to be merged into", m.path, vdcore.ErrUnsupported)
	}
	parent := c.Layers()[top.Index-1]
	switch size, below := top.Info().Capacity, parent.Info().Capacity; {
	case size != below:
		return fmt.Errorf("%s: %w: it shows %d bytes and its parent %s has %d; make them equal first",
			m.path, vdcore.ErrUnsupported, size, m.parent, below)
	case top.Link.Verdict != vdcore.LinkOK && !m.opts.AllowModifiedParent:
		return fmt.Errorf("%s: %w: its parent %s is not as it was when it was made; --allow-modified-parent merges all the same",
			m.path, vdcore.ErrMismatch, m.parent)
	case shared(top, c.Layers()[:top.Index]):
		return fmt.Errorf("%s: %w: one of its files is a parent's too", m.path, vdcore.ErrCorrupt)
	case c.Options().BreakChildren:
		return nil
	}
	if registry := c.Registered(); registry != "" {
		return fmt.Errorf("%s: %w: %s lists it as a medium, and the machine would miss it; let VirtualBox delete the snapshot, or give the machine up with --break-children",
			m.path, vdcore.ErrInUse, registry)
	}
	return checkChildren(c)
}

// shared reports whether a layer is made of a file of those below.
func shared(top *vdcore.Layer, below []*vdcore.Layer) bool {
	var paths []string
	for _, l := range below {
		paths = append(paths, l.Path)
		for _, f := range l.Image.Files() {
			paths = append(paths, f.Path())
		}
	}
	return slices.ContainsFunc(top.Image.Files(), func(f storage.File) bool { return slices.Contains(paths, f.Path()) })
}

// checkChildren looks for other images made from the parent, which changes. Those
// made from the topmost image were looked for when it was opened for writing.
func checkChildren(c *vdcore.Chain) error {
	top := c.Top().Layer()
	parent := c.Layers()[top.Index-1].Path
	var others []string
	visit(c.Tree(), func(t *vdcore.Tree) {
		for _, child := range t.Children {
			if t.Path == parent && child.Path != top.Path {
				others = append(others, child.Path)
			}
		}
	})
	if len(others) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w as parent of %s too, which would be wrong after the merge; give that up with --break-children",
		parent, vdcore.ErrInUse, strings.Join(others, ", "))
}

func visit(t *vdcore.Tree, f func(*vdcore.Tree)) {
	f(t)
	for _, child := range t.Children {
		visit(child, f)
	}
}

// open opens the image alone and its parent for writing. The chain that was checked
// is closed: its locks would keep the parent from being written.
func (m *merge) open() (err error) {
	if m.over, err = m.openChain(m.path, vdcore.Options{Alone: true, Search: m.opts.Search}); err != nil {
		return err
	}
	o := m.opts
	o.MergeChild = m.path
	if m.into, err = m.openChain(m.parent, o); err != nil {
		return errors.Join(err, m.over.Close())
	}
	if m.into.Top().Layer().Info().Identity != m.identity {
		err = fmt.Errorf("%s: %w: it was changed a moment ago", m.parent, vdcore.ErrMismatch)
		return errors.Join(err, m.into.Close(), m.over.Close())
	}
	return nil
}

// copy brings everything the image holds into its parent, with barriers.
func (m *merge) copy(ctx context.Context, progress Progress) error {
	count := &counter{report: progress}
	err := m.each(ctx, func(e vdcore.Extent) error {
		count.total += e.Len
		return nil
	})
	if err != nil {
		return err
	}
	pending := int64(0)
	err = m.each(ctx, func(e vdcore.Extent) error {
		if err := m.move(ctx, e, count); err != nil {
			return err
		}
		if pending += e.Len; pending < mergeSync {
			return nil
		}
		pending = 0
		return m.into.Top().Sync()
	})
	return errors.Join(err, m.into.Top().Sync()) // also what an interrupted merge has done so far
}

// each calls do for what the image holds itself, in order, at most mergeSync bytes
// at a time.
func (m *merge) each(ctx context.Context, do func(vdcore.Extent) error) error {
	layer := m.over.Top().Layer()
	var extents []vdcore.Extent
	for off, end := int64(0), layer.Info().Capacity; off < end; off += mergeStep {
		var err error
		if extents, err = layer.Image.Map(extents[:0], off, min(mergeStep, end-off)); err != nil {
			return fmt.Errorf("%s: %w", layer.Path, err)
		}
		for _, e := range extents {
			for at := e.Off; at < e.End() && e.Kind != vdcore.Free; at += mergeSync {
				if err := context.Cause(ctx); err != nil {
					return err
				}
				if err := do(e.Clip(at, min(at+mergeSync, e.End()))); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// move brings one extent down.
func (m *merge) move(ctx context.Context, e vdcore.Extent, count *counter) error {
	if e.Kind == vdcore.Zero {
		count.add(e.Len)
		return m.into.Top().Discard(e.Off, e.Len)
	}
	buf := make([]byte, min(e.Len, copyChunk))
	for off := e.Off; off < e.End() && ctx.Err() == nil; off += copyChunk {
		part := buf[:min(e.End()-off, copyChunk)]
		if _, err := m.over.Top().ReadAt(part, off); err != nil && err != io.EOF {
			return err
		}
		if _, err := m.into.Top().WriteAt(part, off); err != nil {
			return err
		}
		count.add(int64(len(part)))
	}
	return context.Cause(ctx)
}

// renew gives the parent a new identity: whatever was made from it is wrong now.
func (m *merge) renew() error {
	o := m.opts
	o.BreakChildren = true // others were looked for; a registry may still list the one that is gone
	c, err := m.openChain(m.parent, o)
	if err != nil {
		return err
	}
	return errors.Join(c.Renew(), c.Close())
}
