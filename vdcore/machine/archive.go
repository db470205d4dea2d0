package machine

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"vdfs/internal/shell"
	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// maxMembers bounds the members of an archive that are looked at.
const maxMembers = 10000

// archive is a tar archive as a read-only file system: the archive is the folder its
// members lie in.
type archive struct {
	fs      storage.FS
	path    string
	members map[string]member
}

// member is a file in an archive, as a range of bytes.
type member struct {
	off, size int64
	err       error // why it cannot be read
}

var _ storage.FS = (*archive)(nil)

// packers begin files of programs that compress, each with what unpacks it.
var packers = []struct{ magic, unpack string }{
	{"\x1f\x8b", "tar -xzf"}, {"BZh", "tar -xjf"}, {"\xfd7zXZ", "tar -xJf"}, {"\x28\xb5\x2f\xfd", "tar --zstd -xf"},
}

// openArchive reads where the members of an archive lie.
func openArchive(fsys storage.FS, path string) (*archive, error) {
	f, err := fsys.Open(path, storage.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := refusePacked(f, path); err != nil {
		return nil, err
	}
	a := &archive{fsys, path, map[string]member{}}
	if err := a.index(io.NewSectionReader(f, 0, st.Size), st.Size); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

// refusePacked: members of a compressed archive do not lie anywhere.
func refusePacked(f storage.File, path string) error {
	head := make([]byte, 6)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	for _, p := range packers {
		if bytes.HasPrefix(head[:n], []byte(p.magic)) {
			dir := shell.Quote(stem(path))
			return fmt.Errorf("%s: a compressed archive, %w; unpack it: mkdir %s && %s %s -C %s, and name the folder",
				path, vdcore.ErrUnsupported, dir, p.unpack, shell.Quote(path), dir)
		}
	}
	return nil
}

// index reads the headers. Names that lead out of the archive are nobody's.
func (a *archive) index(r *io.SectionReader, size int64) error {
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := tr.Next()
		switch {
		case err == io.EOF && n > 0:
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF) && n > 0:
			return fmt.Errorf("%w: the archive was cut off: %w", vdcore.ErrCorrupt, err)
		case err != nil:
			return fmt.Errorf("%w: it should be a tar archive: %w", vdcore.ErrFormat, err)
		case n == maxMembers:
			return fmt.Errorf("%w: more than %d members", vdcore.ErrUnsupported, maxMembers)
		}
		off, err := r.Seek(0, io.SeekCurrent) // where the data of the member begin
		if err != nil {
			return err
		}
		name := filepath.Clean(h.Name)
		if !filepath.IsLocal(name) || h.Typeflag == tar.TypeDir {
			continue
		}
		a.members[name] = a.member(h, name, off, size)
	}
}

func (a *archive) member(h *tar.Header, name string, off, size int64) member {
	m := member{off: off, size: h.Size}
	_, twice := a.members[name]
	switch {
	case isSparse(h):
		m.err = fmt.Errorf("a sparse member of an archive, %w; unpack it (tar -xf)", vdcore.ErrUnsupported)
	case h.Typeflag != tar.TypeReg:
		m.err = fmt.Errorf("%w (type %q in the archive)", storage.ErrNotRegular, h.Typeflag)
	case twice:
		m.err = fmt.Errorf("%w: it is twice in the archive", vdcore.ErrCorrupt)
	case h.Size > size-off:
		m.err = fmt.Errorf("%w: the archive ends inside it: %d bytes of %d are there", vdcore.ErrCorrupt, max(size-off, 0), h.Size)
	}
	return m
}

// isSparse reports whether the bytes in the archive are not those of the file.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// names are those of all members, sorted.
func (a *archive) names() []string { return slices.Sorted(maps.Keys(a.members)) }

// Open opens a member.
func (a *archive) Open(path string, mode storage.Mode) (storage.File, error) {
	rel, err := filepath.Rel(a.path, path)
	if err != nil || !filepath.IsLocal(rel) {
		return nil, fmt.Errorf("%s: %w (the archive %s)", path, storage.ErrOutside, a.path)
	}
	if mode != storage.ReadOnly {
		return nil, a.refuse()
	}
	m, ok := a.members[rel]
	switch {
	case !ok:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	case m.err != nil:
		return nil, fmt.Errorf("%s: %w", path, m.err)
	}
	f, err := a.fs.Open(a.path, storage.ReadOnly)
	if err != nil {
		return nil, err
	}
	return storage.NewSection(f, path, m.off, m.size), nil
}

// List names the members directly in a folder of the archive.
func (a *archive) List(dir string) ([]string, error) {
	var list []string
	for _, name := range a.names() {
		if path := filepath.Join(a.path, name); filepath.Dir(path) == dir {
			list = append(list, filepath.Base(path))
		}
	}
	return list, nil
}

// Below stays the whole archive: nobody else's files are in it.
func (a *archive) Below(string) storage.FS { return a }

func (a *archive) Search() []string { return nil }

// Users are those of the archive itself.
func (a *archive) Users(files []storage.File, writing bool) []storage.User {
	f, err := a.fs.Open(a.path, storage.ReadOnly)
	if err != nil || len(files) == 0 {
		return nil
	}
	defer f.Close()
	return a.fs.Users([]storage.File{f}, writing)
}

func (a *archive) refuse() error {
	return fmt.Errorf("%s: %w: it is an archive; unpack it (tar -xf), or convert the disk", a.path, vdcore.ErrReadOnly)
}

func (a *archive) Remove(string) error            { return a.refuse() }
func (a *archive) Rename(string, string) error    { return a.refuse() }
func (a *archive) Replace(string, string) error   { return a.refuse() }
func (a *archive) Link(string, string) error      { return a.refuse() }
func (a *archive) CopyOwner(string, string) error { return a.refuse() }
func (a *archive) SyncDir(string) error           { return a.refuse() }
