package vdcore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

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
	index map[string][]candidate // by folder, headers read once
}

// candidate is a file that may be the parent.
type candidate struct {
	path string
	info *Info
	id   storage.FileID
	err  error // why it could not be read; info is nil then
}

// plausible leaves out what cannot be a parent: other files, plain disks, pieces
// of images. A damaged image stays, to be named in the message.
func (c candidate) plausible() bool {
	for _, not := range []error{ErrFormat, ErrUnsupported, ErrOutside, ErrNotRegular} {
		if errors.Is(c.err, not) {
			return false
		}
	}
	return c.err != nil || c.info.UUID != uuid.Nil || c.info.HasCID
}

func newFinder(c *Chain) *finder { return &finder{chain: c, index: map[string][]candidate{}} }

// quest is the search for one parent: what fits, and what was seen on the way.
type quest struct {
	*finder
	child   *Layer
	ref     *ParentRef
	fitting []candidate // the right identity, not in the chain yet
	looped  *candidate  // the right identity, but already in the chain
	others  []candidate // images of another identity, or unreadable ones
	notes   []string    // what else went wrong on the way
	places  []string    // where it looked
	barred  bool        // the stored name leads out of the allowed folders
}

// find returns the path of child's parent and what is to be said of the link.
func (fd *finder) find(child *Layer) (string, Link, error) {
	q := &quest{finder: fd, child: child, ref: child.Info().Parent}
	if q.ref.UUID != uuid.Nil {
		for _, l := range fd.chain.layers {
			if l.Info().UUID == q.ref.UUID {
				return "", Link{}, fmt.Errorf("%s: %w: its parent UUID %s is that of %s, which is above it already",
					child.Path, ErrCycle, q.ref.UUID, l.Path)
			}
		}
	}
	if path, link, ok, err := q.explicit(); ok || err != nil {
		return path, link, err
	}
	for _, step := range []func(){q.stored, q.folders, q.registries} {
		step()
		if q.exact() >= 0 {
			break
		}
	}
	return q.decide()
}

// explicit tries the files the user named.
func (q *quest) explicit() (string, Link, bool, error) {
	for _, p := range q.chain.opts.Parents {
		c := q.peek(p)
		switch {
		case c.err != nil:
			return "", Link{}, false, fmt.Errorf("--parent %s: %w", p, c.err)
		case q.inChain(c):
			continue // it served a layer above
		case q.fits(c.info):
			return c.path, q.verdict(c), true, nil
		case q.chain.opts.AllowModifiedParent:
			return c.path, Link{LinkForced, fmt.Sprintf("%s: taken as parent of %s although %s",
				c.path, q.child.Path, q.differs(c.info))}, true, nil
		}
		q.others = append(q.others, c)
	}
	return "", Link{}, false, nil
}

// stored tries the name the child recorded.
func (q *quest) stored() {
	hint := strings.ReplaceAll(q.ref.Hint, "\\", "/")
	if hint == "" || strings.ContainsRune(hint, 0) {
		return
	}
	dir := filepath.Dir(q.child.Path)
	named := hint
	if !filepath.IsAbs(named) {
		named = filepath.Join(dir, named)
	}
	q.places = append(q.places, fmt.Sprintf("the stored name %q", q.ref.Hint))
	c := q.peek(named)
	q.barred = errors.Is(c.err, storage.ErrOutside)
	q.consider(c)
	beside := filepath.Join(dir, filepath.Base(hint))
	if c.err != nil && beside != named && filepath.Base(hint) != ".." {
		q.consider(q.peek(beside))
	}
}

// folders tries every image in the folders a parent may lie in. A name that was
// stored and leads elsewhere is not replaced by a guess: a CID is too weak an
// identity for that.
func (q *quest) folders() {
	if q.barred && q.ref.UUID == uuid.Nil {
		return
	}
	for _, dir := range q.dirs() {
		q.places = append(q.places, dir)
		for _, c := range q.list(dir) {
			q.consider(c)
		}
		if q.exact() >= 0 {
			return
		}
	}
}

// dirs names the folders to search for the child's parent, nearest first.
func (q *quest) dirs() []string {
	own := filepath.Dir(q.child.Path)
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
func (q *quest) registries() {
	if q.ref.UUID == uuid.Nil {
		return
	}
	own := filepath.Dir(q.child.Path)
	for _, dir := range []string{own, filepath.Dir(own)} {
		for _, reg := range q.registryFiles(dir) {
			location, err := registryLocation(q.chain.fs, reg, q.ref.UUID)
			if err != nil {
				q.notes = append(q.notes, fmt.Sprintf("%s: %v", reg, err))
			}
			if location == "" {
				continue
			}
			if !filepath.IsAbs(location) {
				location = filepath.Join(dir, location)
			}
			q.places = append(q.places, fmt.Sprintf("the registry %s", reg))
			q.consider(q.peek(location))
		}
	}
}

func (q *quest) registryFiles(dir string) []string {
	names, err := q.chain.fs.List(dir)
	if err != nil {
		return nil // not an allowed folder: nothing to find there
	}
	var regs []string
	for _, n := range names {
		if strings.EqualFold(filepath.Ext(n), ".vbox") {
			regs = append(regs, filepath.Join(dir, n))
		}
	}
	return regs
}

// consider sorts one candidate into what fits and what does not. It runs for every
// file of a folder and every layer of a chain, so it says nothing yet.
func (q *quest) consider(c candidate) {
	switch {
	case c.err != nil:
		if !errors.Is(c.err, fs.ErrNotExist) && !errors.Is(c.err, ErrFormat) {
			q.others = append(q.others, c)
		}
	case !q.fits(c.info):
		q.others = append(q.others, c)
	case q.inChain(c):
		q.looped = &c
	case !slices.ContainsFunc(q.fitting, func(f candidate) bool { return f.id == c.id }):
		q.fitting = append(q.fitting, c)
	}
}

// rejected says of each candidate that was not taken why not. The chain's own
// layers go without saying.
func (q *quest) rejected() []string {
	var list []string
	for _, c := range q.others {
		switch {
		case c.err != nil:
			list = append(list, fmt.Sprintf("%s: %v", c.path, c.err))
		case !q.inChain(c):
			list = append(list, fmt.Sprintf("%s: %s", c.path, q.differs(c.info)))
		}
	}
	return append(list, q.notes...)
}

func (q *quest) inChain(c candidate) bool {
	return slices.ContainsFunc(q.chain.layers, func(l *Layer) bool { return l.id == c.id })
}

// fits compares identities: the UUID when the child recorded one, else the CID.
func (q *quest) fits(i *Info) bool {
	if q.ref.UUID != uuid.Nil {
		return i.UUID == q.ref.UUID
	}
	return i.HasCID && i.CID == q.ref.CID
}

func (q *quest) differs(i *Info) string {
	if q.ref.UUID != uuid.Nil {
		return fmt.Sprintf("its UUID is %s, not %s", i.UUID, q.ref.UUID)
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
		c.path, q.child.Path, c.info.ModUUID, q.ref.ModUUID)}
}

// decide picks among the fitting candidates or says what is wrong.
func (q *quest) decide() (string, Link, error) {
	i := q.exact()
	switch {
	case i >= 0:
	case len(q.fitting) > 0:
		i = 0
	case q.looped != nil:
		return "", Link{}, fmt.Errorf("%s: %w: its parent is %s, which is above it already", q.child.Path, ErrCycle, q.looped.path)
	default:
		return q.missing()
	}
	best := q.fitting[i]
	link := q.verdict(best)
	for j, c := range q.fitting {
		if j != i && q.unmodified(c.info) == q.unmodified(best.info) {
			link.Note = strings.TrimPrefix(link.Note+fmt.Sprintf(
				"; %s and %s carry the same identity, the first is taken as parent of %s", best.path, c.path, q.child.Path), "; ")
		}
	}
	return best.path, link, nil
}

// missing is the message of a parent that is not there, or is another one.
func (q *quest) missing() (string, Link, error) {
	if path, link, ok := q.forced(); ok {
		return path, link, nil
	}
	want := fmt.Sprintf("UUID %s", q.ref.UUID)
	if q.ref.UUID == uuid.Nil {
		want = fmt.Sprintf("CID %08x, called %q", q.ref.CID, q.ref.Hint)
	}
	kind, what := ErrMissing, "parent"
	if c, ok := q.namesake(); ok && q.ref.UUID == uuid.Nil {
		kind, what = ErrMismatch, fmt.Sprintf("parent %s was modified, or is another image", c.path)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "wanted %s; looked in %s", want, strings.Join(q.places, ", "))
	rejected := q.rejected()
	for i, r := range rejected {
		if i == 4 {
			fmt.Fprintf(&b, "; and %d more", len(rejected)-i)
			break
		}
		fmt.Fprintf(&b, "; not %s", r)
	}
	return "", Link{}, fmt.Errorf("%s: %s: %w: %s; name its folder with --search or the file with --parent%s",
		q.child.Path, what, kind, b.String(), q.override(kind))
}

func (q *quest) override(kind error) string {
	if kind == ErrMismatch {
		return ", or take it as it is with --allow-modified-parent"
	}
	return ", or read what is left with --allow-incomplete"
}

// namesake is the file the child named, when it is an image of another identity.
func (q *quest) namesake() (candidate, bool) {
	if q.ref.Hint == "" || q.barred {
		return candidate{}, false
	}
	hint := strings.ReplaceAll(q.ref.Hint, "\\", "/")
	if !filepath.IsAbs(hint) {
		hint = filepath.Join(filepath.Dir(q.child.Path), hint)
	}
	c := q.peek(hint)
	return c, c.err == nil && !q.inChain(c)
}

// forced takes the named file in spite of its CID when the user said so.
func (q *quest) forced() (string, Link, bool) {
	c, ok := q.namesake()
	if !ok || !q.chain.opts.AllowModifiedParent {
		return "", Link{}, false
	}
	return c.path, Link{LinkForced, fmt.Sprintf("%s: taken as parent of %s although %s", c.path, q.child.Path, q.differs(c.info))}, true
}

// list reads the headers of all images in a folder, once.
func (fd *finder) list(dir string) []candidate {
	if found, ok := fd.index[dir]; ok {
		return found
	}
	var found []candidate
	names, _ := fd.chain.fs.List(dir) // a folder that cannot be listed holds no parent
	for _, name := range names {
		if c := fd.peek(filepath.Join(dir, name)); c.plausible() {
			found = append(found, c)
		}
	}
	fd.index[dir] = found
	return found
}

// peek reads a file's header.
func (fd *finder) peek(path string) candidate {
	return peek(fd.chain.fs, path)
}

// peek reads the identity of the image at path, if it is one with an identity.
func peek(fsys storage.FS, path string) candidate {
	c := candidate{path: path}
	f, err := fsys.Open(path, storage.ReadOnly)
	if err != nil {
		c.err = err
		return c
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		c.err = err
		return c
	}
	c.id = st.ID
	img, err := openImage(fsys, f, "", nil, true)
	if err != nil {
		f.Close()
		c.err = err
		return c
	}
	c.info = img.Info()
	c.err = img.Close()
	return c
}
