package vdcore

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore/storage"
)

// candidate is a file that may be the parent.
type candidate struct {
	path string
	info *Info // what identifies it, and what the tree shows; no more is kept
	id   storage.FileID
	err  error // why it could not be read; info is nil then
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
	var found []candidate
	names, err := fd.chain.fs.List(dir) // a folder that cannot be listed holds no parent
	fd.limit = fd.limit || errors.Is(err, storage.ErrTooMany)
	for _, name := range names {
		if fd.spent > indexBudget {
			fd.limit = true
			break
		}
		if c := fd.peek(filepath.Join(dir, name)); c.plausible() {
			found = append(found, c)
		}
	}
	fd.index[dir] = found
	return found
}

// peek reads the identity of the image at path; of each file once, whatever it is
// called.
func (fd *finder) peek(path string) candidate {
	c := candidate{path: path}
	f, err := fd.chain.fs.Open(path, storage.ReadOnly)
	if err != nil {
		c.err = err
		return c
	}
	m := &meter{File: f, n: &fd.spent}
	defer m.Close()
	st, err := m.Stat()
	if err != nil {
		c.err = err
		return c
	}
	if known, ok := fd.seen[st.ID]; ok {
		known.path = path
		return known
	}
	c.id = st.ID
	img, err := openImage(fd.chain.fs, m, "", OpenArgs{Shallow: true})
	if c.err = err; err == nil {
		c.info = img.Info().slim()
		c.err = img.Close()
	}
	fd.seen[st.ID] = c
	return c
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

// meter counts the bytes read from a file, and closes it once.
type meter struct {
	storage.File
	n    *int64
	done bool
}

func (m *meter) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.File.ReadAt(p, off)
	*m.n += int64(n)
	return n, err
}

func (m *meter) Close() error {
	if m.done {
		return nil
	}
	m.done = true
	return m.File.Close()
}

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
