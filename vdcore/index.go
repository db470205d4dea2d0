package vdcore

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"vdfs/vdcore/storage"
)

// candidate is a file that may be the parent.
type candidate struct {
	path string
	info *Info // what identifies it, and what the tree shows; no more is kept
	id   storage.FileID
	err  error        // why it could not be read; info is nil then
	file storage.File // where it was left open for whoever opens it for good, else nil
}

// candidate is the layer as the search for parents sees it.
func (l *Layer) candidate() candidate { return candidate{path: l.Path, info: l.Info(), id: l.id} }

const (
	// indexBudget bounds what is read of the files in the folders searched for one
	// chain: ten thousand VDI headers fit, ten thousand hostile descriptors do not.
	indexBudget   = 256 << 20 // bytes
	maxRegistries = 16        // .vbox files looked at in one folder
)

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

// list reads the headers of all images in a folder, once.
func (fd *finder) list(dir string) []candidate {
	if found, ok := fd.index[dir]; ok {
		return found
	}
	names, err := fd.chain.fs.List(dir) // a folder that cannot be listed holds no parent
	all := fd.peekAll(dir, names)
	fd.limit = fd.limit || errors.Is(err, storage.ErrTooMany) || len(all) < len(names)
	found := slices.DeleteFunc(all, func(c candidate) bool { return !c.plausible() })
	fd.index[dir] = found
	return found
}

// peekAll looks at the files of a folder, several at once, until the budget is spent:
// those on the way are finished, so how many it is varies by a few.
func (fd *finder) peekAll(dir string, names []string) []candidate {
	all := make([]candidate, len(names))
	var begun atomic.Int64
	work := func() {
		for fd.spent.Load() <= indexBudget {
			i := begun.Add(1) - 1
			if i >= int64(len(names)) {
				return
			}
			all[i] = fd.peek(filepath.Join(dir, names[i]))
		}
	}
	var others sync.WaitGroup
	if storage.Room(openAtOnce) {
		for range min(openAtOnce, len(names)) - 1 {
			others.Go(work)
		}
	}
	work()
	others.Wait()
	return all[:min(begun.Load(), int64(len(names)))]
}

// peek reads the identity of the image at path.
func (fd *finder) peek(path string) candidate {
	c := fd.look(path)
	c.close()
	return c
}

// look is peek that leaves the file open. One that was read before, under whatever name,
// is not read again.
func (fd *finder) look(path string) candidate {
	f, err := fd.chain.fs.Open(path, storage.ReadOnly)
	if err != nil {
		return candidate{path: path, err: err}
	}
	m := meter{f, &fd.spent}
	st, err := m.Stat()
	if err != nil {
		return candidate{path: path, err: err, file: f}
	}
	c, ok := fd.known(st.ID)
	if !ok {
		c = identify(fd.chain.fs, m)
		c.id = st.ID
		fd.know(c)
	}
	c.path, c.file = path, f
	return c
}

func (fd *finder) known(id storage.FileID) (candidate, bool) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	c, ok := fd.seen[id]
	return c, ok
}

func (fd *finder) know(c candidate) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	fd.seen[c.id] = c
}

// identify reads the header of the image whose file m is.
func identify(fsys storage.FS, m meter) (c candidate) {
	img, err := openImage(fsys, m, "", OpenArgs{Shallow: true})
	if err != nil {
		return candidate{err: err}
	}
	return candidate{info: img.Info().slim(), err: img.Close()}
}

// close gives up a file that look left open, and nobody has taken.
func (c *candidate) close() {
	if c.file != nil {
		c.file.Close() // it was only read
		c.file = nil
	}
}

// slim keeps what finding parents and drawing trees needs, and lets go of the text
// it was parsed from.
func (i *Info) slim() *Info {
	s := &Info{Format: i.Format, Variant: strings.Clone(i.Variant), Capacity: i.Capacity, Identity: i.Identity}
	if i.Parent != nil {
		ref := *i.Parent
		ref.Hint = strings.Clone(ref.Hint)
		s.Parent = &ref
	}
	return s
}

// meter counts the bytes read from a file that was opened a moment ago, and stays open.
type meter struct {
	storage.File
	n *atomic.Int64
}

func (m meter) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.File.ReadAt(p, off)
	m.n.Add(int64(n))
	return n, err
}

// Stat is that of the opening: all who look at a header would ask again.
func (m meter) Stat() (storage.Stat, error) { return storage.Opened(m.File) }

func (m meter) Close() error { return nil }

// Found is an image of which only the header was read.
type Found struct {
	Path string
	Info *Info // its identity, format and capacity, no more
}

// Images reads the headers of the images in some folders. What cannot be read, or has
// no identity, is left out.
func Images(fsys storage.FS, dirs ...string) []Found {
	fd := newFinder(&Chain{fs: fsys})
	var list []Found
	for _, dir := range dirs {
		for _, c := range fd.list(dir) {
			if c.err == nil {
				list = append(list, Found{c.path, c.info})
			}
		}
	}
	return list
}

// Peek reads the header of one image.
func Peek(fsys storage.FS, path string) (Found, error) {
	c := newFinder(&Chain{fs: fsys}).peek(path)
	return Found{c.path, c.info}, c.err
}
