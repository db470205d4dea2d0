package vdcore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"vdfs/vdcore/storage"
)

// Options say how to open a chain.
type Options struct {
	Format  string   // backend of the named image; "" probes
	Search  []string // further folders parents and extent files may lie in
	Parents []string // files tried first whenever a parent is looked for
	// AllowModifiedParent accepts a parent whose CID, or a --parent file whose
	// UUID, is not the one the child recorded.
	AllowModifiedParent bool
	// AllowIncomplete opens what can be opened: missing parents and extents and
	// damaged ranges read as errors, or as zeros with FillZero.
	AllowIncomplete bool
	FillZero        bool
	// Write opens the topmost image for writing; its parents stay as they are.
	Write bool
	// BreakChildren writes to an image although others were made from it, which
	// are wrong from then on.
	BreakChildren bool
	// Alone opens the named image without its parents: what it does not hold itself
	// is lost.
	Alone bool
	// Hold keeps everybody else from the topmost image, as Write does, although it is
	// opened for reading: for whoever changes its header, or moves or removes its
	// files. Images made from it are no obstacle, see Child.
	Hold bool
	// MergeChild is the path of a child that is being merged into the image: it does
	// not keep the image from being written, and the image keeps its modification
	// UUID and CID, or the child would not fit any more when that is interrupted.
	MergeChild string
}

// Verdict is what is to be said of a link between a layer and its parent.
type Verdict string

const (
	LinkBase     Verdict = "base"     // no parent
	LinkOK       Verdict = "ok"       // identity confirmed
	LinkModified Verdict = "modified" // right identity, changed since the child was made
	LinkForced   Verdict = "forced"   // the user's choice against the identity
	LinkMissing  Verdict = "missing"  // not there; opened because incomplete chains were allowed
)

// Link joins a layer to its parent.
type Link struct {
	Verdict Verdict
	Note    string // a sentence, "" when there is nothing to say
}

// Layer is one image of a chain.
type Layer struct {
	Index int // 0 is the base
	Path  string
	Image Image
	Link  Link // to layer Index-1
	// Modified is when the newest of the image's files was last written.
	Modified time.Time
	// Snapshots are those of a machine whose state of the disk this layer is. Whoever
	// knows the machine adds them, before the chain is shown to others.
	Snapshots []Snapshot

	id     storage.FileID
	guards guards // of the image's files, until it is closed
}

// close closes the image, then gives up its locks.
func (l *Layer) close() error {
	defer l.guards.release()
	return l.Image.Close()
}

// Snapshot is a state of a machine, as the machine's own files name it.
type Snapshot struct {
	Name, Description string
	Taken             time.Time // zero when it is not known
}

// Info is the image's.
func (l *Layer) Info() *Info { return l.Image.Info() }

// ID is the file the layer was opened by.
func (l *Layer) ID() storage.FileID { return l.id }

// Name is the file name without its folder and extension.
func (l *Layer) Name() string {
	base := filepath.Base(l.Path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// Chain is a disk image with all its parents, open for reading, the topmost one
// perhaps for writing.
type Chain struct {
	layers   []*Layer // base first
	warnings []string
	opts     Options
	fs       storage.FS
	owned    []func() error // see Own
	tables   *Tables
	files    fileTable
	units    *unitCache
	runs     *runBudget
	writer   *writer               // nil when nothing can be written
	users    func() []storage.User // of the topmost image; waits

	mu    sync.Mutex
	disks map[int]*Disk
}

// Open opens the image at path and all its parents from the host's file system.
func Open(path string, o Options) (*Chain, error) {
	host, real, err := o.Host(path)
	if err != nil {
		return nil, err
	}
	return openOn(host, real, o)
}

// OpenNamed opens the image at path, which the file at by names. Both are absolute, by
// without symbolic links. What can be reached are the folders around by, not those
// around the image: its name is not the user's word.
func OpenNamed(by, path string, o Options) (*Chain, error) {
	host, err := o.around(by)
	if err != nil {
		return nil, err
	}
	return openOn(host, path, o)
}

// openOn opens a chain that takes the host over.
func openOn(host *storage.OS, path string, o Options) (_ *Chain, err error) {
	o.Parents = slices.Clone(o.Parents)
	for i, p := range o.Parents {
		if o.Parents[i], err = storage.Resolve(p); err != nil {
			return nil, errors.Join(fmt.Errorf("--parent: %w", err), host.Close())
		}
	}
	c, err := OpenFS(host, path, o)
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	c.Own(host.Close)
	return c, nil
}

// Host is the host's file system as far as the image at path and its parents may
// refer to it, and the image's path there.
func (o Options) Host(path string) (host *storage.OS, real string, err error) {
	if real, err = storage.Resolve(path); err != nil {
		return nil, "", err
	}
	if named, err := filepath.Abs(path); err == nil && filepath.Dir(named) != filepath.Dir(real) {
		o.Search = append(slices.Clone(o.Search), filepath.Dir(named)) // a link: its folder is the user's word too
	}
	host, err = o.around(real)
	return host, real, err
}

// around is the host's file system as far as a file at home may refer to it.
func (o Options) around(home string) (*storage.OS, error) {
	search := slices.Clone(o.Search)
	for _, p := range o.Parents {
		p, err := storage.Resolve(p)
		if err != nil {
			return nil, fmt.Errorf("--parent: %w", err)
		}
		search = append(search, filepath.Dir(p))
	}
	return storage.NewOS(home, search...)
}

// OpenFS opens a chain from any file system; path is absolute there.
func OpenFS(fsys storage.FS, path string, o Options) (*Chain, error) {
	c := &Chain{opts: o, fs: fsys, tables: NewTables(), disks: map[int]*Disk{}, runs: &runBudget{}}
	c.users = func() []storage.User { return nil }
	c.units = newUnitCache()
	if err := c.openLayers(path); err != nil {
		c.users()
		return nil, errors.Join(err, c.Close())
	}
	slices.Reverse(c.layers)
	for i, l := range c.layers {
		l.Index = i
		for _, w := range l.Info().Warnings {
			c.warn("%s: %s", l.Path, w)
		}
		c.files.add(l.Image.Files())
	}
	if err := c.lookForWriters(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	var err error
	switch {
	case o.Write:
		err = c.becomeWritable()
	case o.Hold:
		err = c.refuseSavedState()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Warn adds a sentence the user should see.
func (c *Chain) Warn(sentence string) { c.warn("%s", sentence) }

func (c *Chain) warn(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	if !slices.Contains(c.warnings, w) {
		c.warnings = append(c.warnings, w)
	}
}

// Layers lists the images, base first; an index is the number of the state seen
// from that layer.
func (c *Chain) Layers() []*Layer { return c.layers }

// Warnings are sentences the user should see.
func (c *Chain) Warnings() []string { return c.warnings }

// Options are what the chain was opened with.
func (c *Chain) Options() Options { return c.opts }

// Incomplete reports whether something of the chain cannot be read.
func (c *Chain) Incomplete() bool { return c.IncompleteAt(len(c.layers) - 1) }

// IncompleteAt is Incomplete for the state seen from a layer: what is damaged above it
// does not count.
func (c *Chain) IncompleteAt(layer int) bool {
	return slices.ContainsFunc(c.layers[:layer+1], func(l *Layer) bool {
		return l.Link.Verdict == LinkMissing || len(l.Info().Damage) > 0
	})
}

// Top is the disk as the topmost image sees it.
func (c *Chain) Top() *Disk { return c.Disk(len(c.layers) - 1) }

// Disk is the disk as layer i sees it.
func (c *Chain) Disk(i int) *Disk {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.disks[i]
	if !ok {
		d = newDisk(c, i)
		c.disks[i] = d
	}
	return d
}

// Own has Close call end when all files are closed.
func (c *Chain) Own(end func() error) { c.owned = append(c.owned, end) }

// Close makes what was written durable and closes every file. No Disk may be in
// use any more.
func (c *Chain) Close() error {
	var errs []error
	if c.writer != nil {
		errs = append(errs, c.writer.close())
	}
	c.units.close()
	c.files.release()
	for _, l := range c.layers {
		errs = append(errs, l.close())
	}
	for _, end := range c.owned {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// fileTable numbers the files of all layers, so that a run of the flat map names
// one by a small integer, and keeps those that are read pinned.
type fileTable struct {
	files []*pinned
	first []int // of each layer
}

type pinned struct {
	storage.File
	once    sync.Once
	release func()
}

// pin keeps the descriptor open from the first data read on. Files without a
// descriptor work unpinned, and so do all where the process may not have enough.
func (p *pinned) pin() {
	p.once.Do(func() {
		if storage.Scarce() {
			return
		}
		if _, release, err := p.File.Pin(); err == nil {
			p.release = release
		}
	})
}

func (t *fileTable) add(files []storage.File) {
	t.first = append(t.first, len(t.files))
	for _, f := range files {
		t.files = append(t.files, &pinned{File: f})
	}
}

func (t *fileTable) release() {
	for _, f := range t.files {
		f.once.Do(func() {})
		if f.release != nil {
			f.release()
		}
	}
}
