package vdcore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"vdfs/vdcore/storage"
)

// finder looks for parents, always by identity. Where a file lies only decides
// the order in which files are looked at:
//
//  1. files the user named with --parent,
//  2. the name the child stored (and that name's last part in the child's folder),
//  3. the child's folder, its Snapshots/, the folder above and its Snapshots/,
//     then the search folders and theirs,
//  4. the locations a VirtualBox media registry beside the child gives.
type finder struct {
	chain *Chain
	above []candidate              // what the chain consists of so far
	index map[string][]candidate   // by folder, headers read once
	spent atomic.Int64             // of indexBudget
	limit bool                     // the budget ran out, or a folder has too many files
	media map[string]mediaRegistry // by .vbox file, read once

	mu   sync.Mutex                   // several files are looked at at once; guards
	seen map[storage.FileID]candidate // headers read
}

func newFinder(c *Chain) *finder {
	fd := &finder{chain: c, index: map[string][]candidate{}, seen: map[storage.FileID]candidate{}, media: map[string]mediaRegistry{}}
	for _, l := range c.layers {
		fd.above = append(fd.above, l.candidate())
	}
	return fd
}

// quest is the search for one parent: what fits, and what was seen on the way.
type quest struct {
	*finder
	child   candidate
	ref     *ParentRef
	fitting []candidate // the right identity, not in the chain yet
	looped  *candidate  // the right identity, but already in the chain
	others  []candidate // images of another identity, or unreadable ones
	listed  []string    // folders all of whose images were looked at
	notes   []string    // what else went wrong on the way
	places  []string    // where it looked
	named   candidate   // what the child's stored name leads to, still open
	barred  bool        // the stored name leads out of the allowed folders
	byName  bool        // what fits was named, by the user or the child
}

// find returns child's parent and what is to be said of the link. The parent's file is
// open if it is the one the child stored the name of, as most are.
func (fd *finder) find(child candidate) (candidate, Link, error) {
	q := &quest{finder: fd, child: child, ref: child.info.Parent}
	parent, link, err := q.run()
	if err == nil && parent.id == q.named.id && parent.path == q.named.path {
		parent.file = q.named.file
	} else {
		q.named.close()
	}
	return parent, link, err
}

func (q *quest) run() (candidate, Link, error) {
	if q.ref.UUID != uuid.Nil {
		for _, l := range q.above {
			if l.info.UUID == q.ref.UUID {
				return candidate{}, Link{}, fmt.Errorf("%s: %w: its parent UUID %s is that of %s, which is above it already",
					q.child.path, ErrCycle, q.ref.UUID, l.path)
			}
		}
	}
	for _, step := range []func() error{q.explicit, q.stored, q.folders, q.registries} {
		if err := step(); err != nil {
			return candidate{}, Link{}, err
		}
		if q.exact() >= 0 {
			break
		}
	}
	return q.decide()
}

// explicit tries the files the user named.
func (q *quest) explicit() error {
	for _, p := range q.chain.opts.Parents {
		c := q.peek(p)
		if c.err != nil {
			return fmt.Errorf("--parent %s: %w", p, c.err)
		}
		if !q.inChain(c) { // otherwise it served a layer above
			q.consider(c)
		}
	}
	q.byName = len(q.fitting) > 0
	return nil
}

// hinted is the stored name as a path; "" when there is none.
func (q *quest) hinted() string {
	hint := strings.ReplaceAll(q.ref.Hint, "\\", "/")
	switch {
	case hint == "" || strings.ContainsRune(hint, 0):
		return ""
	case filepath.IsAbs(hint):
		return filepath.Clean(hint)
	}
	return filepath.Join(filepath.Dir(q.child.path), hint)
}

// stored tries the name the child recorded. Only here does a CID lead to a loop:
// a fresh snapshot has its parent's CID, so elsewhere it proves nothing.
func (q *quest) stored() error {
	named := q.hinted()
	if named == "" {
		return nil
	}
	q.places = append(q.places, fmt.Sprintf("the stored name %q", q.ref.Hint))
	q.named = q.look(named)
	c := q.named
	c.file = nil // stays with q.named
	if c.err == nil && q.inChain(c) && q.fits(c.info) {
		q.looped = &c
	}
	q.barred = errors.Is(c.err, storage.ErrOutside)
	q.consider(c)
	beside := filepath.Join(filepath.Dir(q.child.path), filepath.Base(named))
	if c.err != nil && beside != named {
		q.consider(q.peek(beside))
	}
	q.byName = q.byName || len(q.fitting) > 0
	return nil
}

// folders tries every image in the folders a parent may lie in. A name that was
// stored and leads elsewhere is not replaced by a guess: a CID is too weak an
// identity for that.
func (q *quest) folders() error {
	if q.barred && q.ref.UUID == uuid.Nil {
		return nil
	}
	for _, dir := range q.dirs() {
		q.places, q.listed = append(q.places, dir), append(q.listed, dir)
		for _, c := range q.list(dir) {
			if c.err == nil && q.fits(c.info) && !q.isChildOf(c) {
				q.consider(c)
			}
		}
		if q.exact() >= 0 {
			break
		}
	}
	return nil
}

// isChildOf reports whether a file found by its CID names the child as its own
// parent: VMware gives a fresh snapshot the CID of what it was made from.
func (q *quest) isChildOf(c candidate) bool {
	if c.err != nil || c.info.Parent == nil || q.ref.UUID != uuid.Nil {
		return false
	}
	hint := strings.ReplaceAll(c.info.Parent.Hint, "\\", "/")
	return filepath.Base(hint) == filepath.Base(q.child.path)
}

// dirs names the folders to search for the child's parent, nearest first.
func (q *quest) dirs() []string {
	own := filepath.Dir(q.child.path)
	up := filepath.Dir(own)
	all := []string{own, filepath.Join(own, "Snapshots"), up, filepath.Join(up, "Snapshots")}
	for _, s := range q.chain.fs.Search() {
		all = append(all, s, filepath.Join(s, "Snapshots"))
	}
	var dirs []string
	for _, d := range all {
		if !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// registries tries where VirtualBox's media registries beside the child say the
// parent lies.
func (q *quest) registries() error {
	if q.ref.UUID == uuid.Nil {
		return nil
	}
	own := filepath.Dir(q.child.path)
	for _, dir := range []string{own, filepath.Dir(own)} {
		for _, path := range q.registryFiles(dir) {
			reg := q.registry(path)
			if reg.err != nil {
				q.notes = append(q.notes, fmt.Sprintf("%s: %v", path, reg.err))
			}
			location := reg.location(q.ref.UUID)
			if location == "" {
				continue
			}
			if !filepath.IsAbs(location) {
				location = filepath.Join(dir, location)
			}
			q.places = append(q.places, fmt.Sprintf("the registry %s", path))
			q.consider(q.peek(location))
		}
	}
	return nil
}

func (fd *finder) registryFiles(dir string) []string {
	names, err := fd.chain.fs.List(dir)
	if err != nil && len(names) == 0 {
		return nil // not an allowed folder: nothing to find there
	}
	var regs []string
	for _, n := range names {
		if strings.EqualFold(filepath.Ext(n), ".vbox") && len(regs) < maxRegistries {
			regs = append(regs, filepath.Join(dir, n))
		}
	}
	return regs
}

// registry reads a .vbox file, once.
func (fd *finder) registry(path string) mediaRegistry {
	reg, ok := fd.media[path]
	if !ok {
		reg = readRegistry(fd.chain.fs, path)
		fd.media[path] = reg
	}
	return reg
}

// consider sorts one candidate into what fits and what does not.
func (q *quest) consider(c candidate) {
	switch {
	case c.err != nil:
		if !errors.Is(c.err, fs.ErrNotExist) && !errors.Is(c.err, ErrFormat) {
			q.others = append(q.others, c)
		}
	case !q.fits(c.info):
		q.others = append(q.others, c)
	case q.inChain(c): // the child itself, or a layer above with the same CID
	case !slices.ContainsFunc(q.fitting, func(f candidate) bool { return f.id == c.id }):
		q.fitting = append(q.fitting, c)
	}
}

// rejected says of each candidate that was not taken why not: first those that
// could not be read, because one of them may be the parent. The chain's own layers
// go without saying.
func (q *quest) rejected() []string {
	for _, dir := range q.listed {
		for _, c := range q.list(dir) {
			if !q.isChildOf(c) {
				q.consider(c)
			}
		}
	}
	list := slices.Clone(q.notes)
	for _, c := range q.others {
		if c.err != nil {
			list = append(list, fmt.Sprintf("%s: %v", c.path, c.err))
		}
	}
	for _, c := range q.others {
		if c.err == nil && !q.inChain(c) {
			list = append(list, fmt.Sprintf("%s: %s", c.path, q.differs(c.info)))
		}
	}
	if q.limit {
		list = append(list, "some files: there are too many to look at")
	}
	return list
}

func (q *quest) inChain(c candidate) bool {
	return slices.ContainsFunc(q.above, func(l candidate) bool { return l.id == c.id })
}

// fits compares identities: the UUID when the child recorded one, else the CID.
func (q *quest) fits(i *Info) bool {
	if q.ref.UUID != uuid.Nil {
		return i.UUID == q.ref.UUID
	}
	return i.HasCID && i.CID == q.ref.CID && i.CID != NoParentCID
}

func (q *quest) differs(i *Info) string {
	switch {
	case q.ref.UUID != uuid.Nil:
		return fmt.Sprintf("its UUID is %s, not %s", i.UUID, q.ref.UUID)
	case !i.HasCID:
		return fmt.Sprintf("it is a %s image and has no CID", i.Format)
	}
	return fmt.Sprintf("its CID is %08x, not %08x", i.CID, q.ref.CID)
}

// unmodified reports whether a fitting candidate still is what the child saw.
func (q *quest) unmodified(i *Info) bool {
	return q.ref.ModUUID == uuid.Nil || i.ModUUID == q.ref.ModUUID
}

// exact returns the first fitting candidate that was not modified, or -1.
func (q *quest) exact() int {
	return slices.IndexFunc(q.fitting, func(c candidate) bool { return q.unmodified(c.info) })
}

func (q *quest) verdict(c candidate) Link {
	if q.unmodified(c.info) {
		return Link{Verdict: LinkOK}
	}
	return Link{LinkModified, fmt.Sprintf(
		"%s: was modified after %s was made from it (modification UUID %s, the child recorded %s); what is read may be inconsistent",
		c.path, q.child.path, c.info.ModUUID, q.ref.ModUUID)}
}

// decide picks among the fitting candidates or says what is wrong.
func (q *quest) decide() (candidate, Link, error) {
	i := q.exact()
	switch {
	case i >= 0:
	case len(q.fitting) > 0:
		i = 0
	case q.looped != nil:
		return candidate{}, Link{}, fmt.Errorf("%s: %w: its parent is %s, which is above it already", q.child.path, ErrCycle, q.looped.path)
	default:
		return q.missing()
	}
	best := q.fitting[i]
	if q.ref.UUID == uuid.Nil && !q.byName && len(q.fitting) > 1 {
		return candidate{}, Link{}, fmt.Errorf("%s: parent: %w: %q is not there, and both %s and %s carry its CID %08x; choose with --parent",
			q.child.path, ErrMismatch, q.ref.Hint, best.path, q.fitting[1].path, q.ref.CID)
	}
	link := q.verdict(best)
	for j, c := range q.fitting {
		if j != i && q.unmodified(c.info) == q.unmodified(best.info) {
			link.Note = strings.TrimPrefix(link.Note+fmt.Sprintf(
				"; %s and %s carry the same identity, the first is taken as parent of %s", best.path, c.path, q.child.path), "; ")
		}
	}
	return best, link, nil
}

// missing is the message of a parent that is not there, or is another one.
func (q *quest) missing() (candidate, Link, error) {
	if c, ok := q.forced(); ok {
		return c, Link{LinkForced, fmt.Sprintf("%s: taken as parent of %s although %s", c.path, q.child.path, q.differs(c.info))}, nil
	}
	kind, what := ErrMissing, "parent"
	if c, ok := q.namesake(); ok {
		kind, what = ErrMismatch, fmt.Sprintf("parent %s was modified, or is another image", c.path)
	}
	text := fmt.Sprintf("%s; looked in %s", q.wanted(), strings.Join(q.places, ", "))
	rejected := q.rejected()
	for i, r := range rejected {
		if i == 4 {
			text += fmt.Sprintf("; and %d more", len(rejected)-i)
			break
		}
		text += "; not " + r
	}
	return candidate{}, Link{}, fmt.Errorf("%s: %s: %w: %s; %s%s", q.child.path, what, kind, text, q.remedy(), q.override(kind))
}

// remedy is how to name a parent. One of which no identity was recorded is only taken
// on the user's word.
func (q *quest) remedy() string {
	if q.ref.UUID == uuid.Nil && q.ref.CID == NoParentCID {
		return "name the file with --parent, together with --allow-modified-parent, since nobody can tell that it is the right one"
	}
	return "name its folder with --search or the file with --parent"
}

func (q *quest) wanted() string {
	switch {
	case q.ref.UUID != uuid.Nil:
		return fmt.Sprintf("wanted UUID %s", q.ref.UUID)
	case q.ref.CID != NoParentCID:
		return fmt.Sprintf("wanted CID %08x, called %q", q.ref.CID, q.ref.Hint)
	case q.ref.Hint != "":
		return fmt.Sprintf("wanted %q, but the image records no identity of it", q.ref.Hint)
	}
	return "it is a differencing image that does not say of what"
}

func (q *quest) override(kind error) string {
	if kind == ErrMismatch {
		return ", or take it as it is with --allow-modified-parent"
	}
	return ", or read what is left with --allow-incomplete"
}

// namesake is the file the child named, when it is an image of another CID.
func (q *quest) namesake() (candidate, bool) {
	named := q.hinted()
	if named == "" || q.barred || q.ref.UUID != uuid.Nil {
		return candidate{}, false
	}
	c := q.peek(named)
	return c, c.err == nil && c.info.HasCID && !q.inChain(c)
}

// forced takes a file in spite of its identity, when the user said so: one named
// with --parent, whatever it is, or the one the child named, if that has an
// identity at all. A name inside an image never makes a plain file a parent.
func (q *quest) forced() (candidate, bool) {
	if !q.chain.opts.AllowModifiedParent {
		return candidate{}, false
	}
	for _, p := range q.chain.opts.Parents {
		if c := q.peek(p); c.err == nil && !q.inChain(c) {
			return c, true
		}
	}
	return q.namesake()
}
