package vdcore

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore/storage"
)

// Tree is an image and the images made from it.
type Tree struct {
	Path      string
	Info      *Info
	Link      Link       // to the image above in the tree
	InChain   bool       // one of the chain's own layers
	Snapshots []Snapshot // of a machine, as far as the chain's layers tell
	Children  []*Tree
}

// Tree returns the chain's base with every descendant that lies in a folder where
// a parent would be looked for. Only headers are read.
func (c *Chain) Tree() *Tree {
	fd := newFinder(c)
	g := &grower{chain: c, seen: map[storage.FileID]bool{}}
	for _, l := range c.layers {
		q := quest{finder: fd, child: l.candidate()}
		for _, dir := range q.dirs() {
			g.pool = append(g.pool, fd.list(dir)...)
		}
	}
	base := c.layers[0]
	g.seen[base.id] = true
	root := &Tree{Path: base.Path, Info: base.Info(), Link: base.Link, InChain: true, Snapshots: base.Snapshots}
	g.grow(root)
	return root
}

// grower attaches children to images, each file once.
type grower struct {
	chain *Chain
	pool  []candidate
	seen  map[storage.FileID]bool
}

func (g *grower) grow(t *Tree) {
	for _, c := range g.pool {
		if c.err != nil || g.seen[c.id] || !g.isChild(c.info.Parent, t) {
			continue
		}
		g.seen[c.id] = true
		child := &Tree{Path: c.path, Info: c.info, Link: g.link(c, t)}
		if i := slices.IndexFunc(g.chain.layers, func(l *Layer) bool { return l.id == c.id }); i >= 0 {
			child.InChain, child.Snapshots = true, g.chain.layers[i].Snapshots
		}
		t.Children = append(t.Children, child)
	}
	for _, child := range t.Children {
		g.grow(child)
	}
}

// isChild compares identities; a CID alone is weak, so the stored name must fit too.
func (g *grower) isChild(ref *ParentRef, t *Tree) bool {
	switch {
	case ref == nil:
		return false
	case ref.UUID != uuid.Nil:
		return ref.UUID == t.Info.UUID
	}
	hint := filepath.Base(strings.ReplaceAll(ref.Hint, "\\", "/"))
	return t.Info.HasCID && ref.CID == t.Info.CID && ref.CID != NoParentCID && hint == filepath.Base(t.Path)
}

func (g *grower) link(c candidate, t *Tree) Link {
	q := quest{finder: &finder{chain: g.chain}, child: c, ref: c.info.Parent}
	return q.verdict(candidate{path: t.Path, info: t.Info})
}
