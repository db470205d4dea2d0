package vdcore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"vdfs/vdcore/storage"
)

// openAtOnce bounds the parents that are opened at the same time: as many as keep a
// disk busy that has to fetch their tables.
const openAtOnce = 8

// openLayers opens top, then all its parents, into c.layers, top first. A parent is
// opened while the search goes on for its own, which needs only headers.
func (c *Chain) openLayers(path string) error {
	top, err := c.openTop(path)
	if err != nil {
		return err
	}
	c.layers = append(c.layers, top)
	if err := c.judge(top); err != nil {
		return err
	}
	c.users = c.lookForUsers(top)
	if c.opts.Alone {
		top.Link = Link{Verdict: LinkMissing, Note: "opened without its parents"}
		return nil
	}
	finder := newFinder(c)
	opener := opener{chain: c}
	var parents []*opening
	for child := top.candidate(); child.info.Parent != nil; {
		parent, link, err := finder.find(child)
		if err != nil {
			return c.join(parents, err)
		}
		parents = append(parents, opener.begin(parent, link))
		parent.file = nil // the opener has it
		finder.above = append(finder.above, parent)
		child = parent
	}
	return c.join(parents, nil)
}

// opening is a parent that was found, and is being opened.
type opening struct {
	candidate
	link  Link // from the child to it
	ready chan struct{}
	layer *Layer // once it is ready, nil if it could not be opened
	err   error
}

// opener opens parents in the background, several at once. What does it goes on with the
// next one that waits: a goroutine for each would have to grow its stack each time.
type opener struct {
	chain *Chain

	mu      sync.Mutex // guards what follows
	waiting []*opening
	running int // at most openAtOnce
}

// begin opens a parent as soon as there is room.
func (q *opener) begin(parent candidate, link Link) *opening {
	o := &opening{candidate: parent, link: link, ready: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, o)
	if q.running < openAtOnce {
		q.running++
		go q.run()
	}
	return o
}

func (q *opener) run() {
	for o := q.next(); o != nil; o = q.next() {
		if o.layer, o.err = q.chain.openParent(o.candidate); o.err == nil {
			o.err = o.confirm()
		}
		close(o.ready)
	}
}

// next is the parent to open now; nil, and one goroutine less, when none waits.
func (q *opener) next() *opening {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.running--
		return nil
	}
	o := q.waiting[0]
	q.waiting = q.waiting[1:]
	return o
}

// confirm compares what was opened with what was found before it was locked.
func (o *opening) confirm() error {
	now := o.layer.Info()
	switch {
	case o.layer.id != o.id:
		return fmt.Errorf("%s: %w", o.path, storage.ErrChanged)
	case now.Identity == o.info.Identity && sameParent(now.Parent, o.info.Parent):
		return nil
	}
	return fmt.Errorf("%s: %w: its identity or its parent's changed while it was opened; try again when nothing writes to it", o.path, ErrInUse)
}

func sameParent(a, b *ParentRef) bool { return a == b || a != nil && b != nil && *a == *b }

// join puts the parents below the topmost layer, nearest first. missing says why the
// last one's own parent was not found, nil when it has none. What the user reads is
// the failure nearest to the top, and nothing below it is kept.
func (c *Chain) join(parents []*opening, missing error) error {
	for i, o := range parents {
		<-o.ready
		if o.err == nil {
			o.err = c.judge(o.layer)
		}
		child := c.layers[len(c.layers)-1]
		if o.err != nil {
			err := fmt.Errorf("parent of %s: %w", child.Path, o.err)
			return errors.Join(c.withoutParent(child, err), giveUp(parents[i:]))
		}
		child.Link = o.link
		if o.link.Note != "" {
			c.warn("%s", o.link.Note)
		}
		c.layers = append(c.layers, o.layer)
	}
	last := c.layers[len(c.layers)-1]
	if missing != nil {
		return c.withoutParent(last, missing)
	}
	last.Link = Link{Verdict: LinkBase}
	return nil
}

// giveUp closes parents that will not be part of the chain.
func giveUp(parents []*opening) error {
	var errs []error
	for _, o := range parents {
		if <-o.ready; o.layer != nil {
			errs = append(errs, o.layer.close())
		}
	}
	return errors.Join(errs...)
}

// withoutParent ends a chain at a layer whose parent is not there, is another one or
// cannot be opened at all, if incomplete chains are allowed.
func (c *Chain) withoutParent(child *Layer, err error) error {
	lacking := slices.ContainsFunc([]error{ErrMissing, ErrMismatch, ErrCorrupt, ErrUnsupported, ErrOutside}, func(is error) bool { return errors.Is(err, is) })
	if lacking && !c.opts.AllowIncomplete && !strings.Contains(err.Error(), "--allow-") { // most say what to do already
		return fmt.Errorf("%w; --allow-incomplete reads what is left", err)
	}
	if !lacking || !c.opts.AllowIncomplete {
		return err
	}
	child.Link = Link{LinkMissing, err.Error()}
	c.warn("%v", err)
	return nil
}

// openTop opens the topmost image for good.
func (c *Chain) openTop(path string) (*Layer, error) {
	mode := storage.ReadOnly
	if c.opts.Write {
		mode = storage.ReadWrite
	}
	f, err := c.fs.Open(path, mode)
	if err != nil {
		return nil, err
	}
	return c.openLayer(f, c.opts.Format, c.opts.Write, c.opts.Write || c.opts.Hold)
}

// openParent opens a parent for good, which the search may have left open.
func (c *Chain) openParent(found candidate) (_ *Layer, err error) {
	f := found.file
	if f == nil {
		if f, err = c.fs.Open(found.path, storage.ReadOnly); err != nil {
			return nil, err
		}
	}
	return c.openLayer(f, found.info.Format, false, false)
}

// openLayer opens the image whose file f is, and closes it if it cannot. Files are locked
// before they are read.
func (c *Chain) openLayer(f storage.File, format string, write, alone bool) (l *Layer, err error) {
	l = &Layer{Path: f.Path()}
	if l.Image, err = c.openLocked(f, format, write, alone, &l.guards); err != nil {
		f.Close()
		l.guards.release()
		return nil, err
	}
	if err := l.stat(f); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// openLocked opens the image whose file f is, and guards all its files, alone against
// readers too. After an error what was locked still is, by held.
func (c *Chain) openLocked(f storage.File, format string, write, alone bool, held *guards) (Image, error) {
	if err := c.guard(f, alone, held); err != nil {
		return nil, err
	}
	img, err := openImage(c.fs, f, format, OpenArgs{Tables: c.tables, Write: write})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path(), err)
	}
	for _, part := range img.Files() {
		if part == f {
			continue
		}
		if err := c.guard(part, alone, held); err != nil {
			return nil, errors.Join(err, img.Close())
		}
	}
	return img, nil
}

// stat notes which file the layer is and how new its files are.
func (l *Layer) stat(f storage.File) error {
	st, err := f.Stat()
	l.id, l.Modified = st.ID, st.Modified
	for _, part := range l.Image.Files() {
		if part == f {
			continue
		}
		st, perr := part.Stat()
		err = errors.Join(err, perr)
		if st.Modified.After(l.Modified) {
			l.Modified = st.Modified
		}
	}
	return err
}

// openImage has the right backend open the image whose file f is. args says how.
func openImage(fsys storage.FS, f storage.File, format string, args OpenArgs) (Image, error) {
	b, err := backendOf(f, format)
	if err != nil {
		return nil, err
	}
	args.File, args.Path, args.FS = f, f.Path(), belowOf(fsys, f)
	return b.Open(args)
}

// backendOf is the backend that reads a file: the one named, or the one its content
// fits.
func backendOf(f storage.File, format string) (Backend, error) {
	if format != "" {
		return Lookup(format)
	}
	memory := sampleMemories.Get().(*sampleMemory)
	defer sampleMemories.Put(memory)
	s, err := takeSample(f, memory)
	if err != nil {
		return Backend{}, err
	}
	return Probe(s)
}

// sampleMemories are used again: to find the parents of a long chain, many files are
// looked at.
var sampleMemories = sync.Pool{New: func() any { return new(sampleMemory) }}

// belowOf opens the other files of the image whose file f is.
func belowOf(fsys storage.FS, f storage.File) storage.FS { return fsys.Below(filepath.Dir(f.Path())) }

// judge refuses an image of a size that cannot be, or with unreadable ranges unless the
// user allowed them.
func (c *Chain) judge(l *Layer) error {
	if size := l.Info().Capacity; size <= 0 || size > MaxCapacity {
		return fmt.Errorf("%s: a disk of %d bytes: %w; at most %d are read", l.Path, size, ErrUnsupported, int64(MaxCapacity))
	}
	return c.judgeDamage(l.Path, l.Info())
}

// judgeDamage refuses an image with unreadable ranges unless the user allowed it.
func (c *Chain) judgeDamage(path string, info *Info) error {
	if len(info.Damage) == 0 {
		return nil
	}
	first := info.Damage[0]
	if !c.opts.AllowIncomplete {
		return fmt.Errorf("%s: %w at guest bytes %d to %d%s; --allow-incomplete opens the rest and reads errors there",
			path, first.Err, first.Off, first.Off+first.Len, more(info))
	}
	c.warn("%s: guest bytes %d to %d cannot be read%s: %v", path, first.Off, first.Off+first.Len, more(info), first.Err)
	return nil
}

func more(info *Info) string {
	n := int64(len(info.Damage)) - 1 + info.DamageMore
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more ranges", n)
}
