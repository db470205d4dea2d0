package crashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"vdfs/vdcore/storage"
)

// ErrCut is what every change fails with from the power cut on.
var ErrCut = errors.New("power cut")

// FS is a file system in memory, or a view of one narrowed by Below. Paths are
// absolute.
type FS struct {
	*disk
	below string // "" or the folder this view is narrowed to
}

var _ storage.FS = (*FS)(nil)

// disk is what all views share.
type disk struct {
	mu     sync.Mutex
	files  map[string]*inode // by the names a reader finds
	names  map[string]*inode // by the durable names
	moves  []move            // changes of names since they were durable, oldest first
	nextID uint64
	search []string
	open   int
	ops    []Op
	cutAt  int // operation at which the power goes; 0 is never
	lie    func(path string, pending []int64) bool
}

// move binds a name to a file, or to nothing.
type move struct {
	op   int
	path string
	node *inode // nil: removed
	from string // the name that goes in the same step, "" for none
}

// New makes an empty file system with the given search folders.
func New(search ...string) *FS {
	return &FS{disk: &disk{files: map[string]*inode{}, names: map[string]*inode{}, search: search}}
}

// Put stores a durable file. The bytes are not copied and must not change.
func (f *FS) Put(path string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextID++
	n := newInode(f.nextID, data)
	f.files[path], f.names[path] = n, n
}

// Bytes returns a file's content as a reader sees it now, nil when there is none.
func (f *FS) Bytes(path string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.files[path]
	if !ok {
		return nil
	}
	b := make([]byte, n.size)
	n.read(b, 0)
	return b
}

// Paths names all files, sorted.
func (f *FS) Paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.files))
}

// OpenFiles is how many files are open.
func (f *FS) OpenFiles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// Lie sets a predicate that is asked at every Sync and DataSync, with the sectors
// that wait for it, sorted. Where it returns true, the sync reports success and
// makes nothing durable. Tests use it to prove that they notice a missing barrier.
func (f *FS) Lie(lie func(path string, pending []int64) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lie = lie
}

// Search names the search folders.
func (f *FS) Search() []string { return f.search }

// Below narrows the view to a folder and the search folders.
func (f *FS) Below(dir string) storage.FS { return &FS{disk: f.disk, below: dir} }

// allowed keeps a narrowed view to its folders.
func (f *FS) allowed(path string) bool {
	if f.below == "" {
		return true
	}
	for _, dir := range append([]string{f.below}, f.search...) {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

// Open opens or creates a file. A file opened read-only cannot be changed.
func (f *FS) Open(path string, mode storage.Mode) (storage.File, error) {
	path = filepath.Clean(path)
	if !f.allowed(path) || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("%s: %w", path, storage.ErrOutside)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.files[path]
	if mode.Creates() {
		if ok {
			return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
		f.nextID++
		n = newInode(f.nextID, nil)
		if err := f.mutate(Op{Kind: OpCreate, Path: path}, func() { f.bind(path, n) }); err != nil {
			return nil, err
		}
	} else if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	f.open++
	return &File{disk: f.disk, path: path, node: n, writable: mode != storage.ReadOnly}, nil
}

// bind gives a name to a file, or takes it away with a nil node, not durably.
func (d *disk) bind(path string, n *inode) {
	d.move(move{op: len(d.ops), path: path, node: n})
}

func (d *disk) move(m move) {
	d.moves = append(d.moves, m)
	m.apply(d.files)
}

// apply changes names as the move says, all of it.
func (m move) apply(names map[string]*inode) {
	if m.node == nil {
		delete(names, m.path)
	} else {
		names[m.path] = m.node
	}
	if m.from != "" {
		delete(names, m.from)
	}
}

// settle makes the current meaning of names durable.
func (d *disk) settle(these func(path string) bool) {
	d.moves = slices.DeleteFunc(d.moves, func(m move) bool {
		if !these(m.path) {
			return false
		}
		m.apply(d.names)
		return true
	})
}

// List names the files directly in a folder, sorted.
func (f *FS) List(dir string) ([]string, error) {
	if !f.allowed(dir) {
		return nil, fmt.Errorf("%s: %w", dir, storage.ErrOutside)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for p := range f.files {
		if filepath.Dir(p) == dir {
			names = append(names, filepath.Base(p))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Remove takes a file's name away, durably once it returns.
func (f *FS) Remove(path string) error {
	if !f.allowed(path) {
		return fmt.Errorf("%s: %w", path, storage.ErrOutside)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.files[path]; !ok {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	err := f.mutate(Op{Kind: OpRemove, Path: path}, func() { f.bind(path, nil) })
	if err == nil {
		f.settle(func(p string) bool { return p == path })
	}
	return err
}

// Rename moves a name, durably once it returns.
func (f *FS) Rename(old, path string) error { return f.rename(OpRename, old, path, old, false) }

// Replace moves a name onto that of another file, durably once it returns.
func (f *FS) Replace(old, path string) error { return f.rename(OpReplace, old, path, old, true) }

// Link makes a second name, durably once it returns.
func (f *FS) Link(old, path string) error { return f.rename(OpLink, old, path, "", false) }

// rename gives the file called old another name, and takes the name gone away in the
// same step.
func (f *FS) rename(kind, old, path, gone string, there bool) error {
	if !f.allowed(old) || !f.allowed(path) {
		return fmt.Errorf("%s, %s: %w", old, path, storage.ErrOutside)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.files[old]
	switch _, taken := f.files[path]; {
	case !ok:
		return &fs.PathError{Op: kind, Path: old, Err: fs.ErrNotExist}
	case taken && !there:
		return &fs.PathError{Op: kind, Path: path, Err: fs.ErrExist}
	case !taken && there:
		return &fs.PathError{Op: kind, Path: path, Err: fs.ErrNotExist}
	}
	o := Op{Kind: kind, Path: path, Note: " from " + old}
	err := f.mutate(o, func() { f.move(move{op: len(f.ops), path: path, node: n, from: gone}) })
	if err == nil {
		f.settle(func(p string) bool { return p == path || p == old })
	}
	return err
}

// CopyOwner changes nothing: there are no owners.
func (f *FS) CopyOwner(string, string) error { return nil }

// SyncDir makes the names in a folder durable.
func (f *FS) SyncDir(dir string) error {
	if !f.allowed(dir) {
		return fmt.Errorf("%s: %w", dir, storage.ErrOutside)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.mutate(Op{Kind: OpSyncDir, Path: dir}, func() {})
	if err == nil {
		f.settle(func(p string) bool { return filepath.Dir(p) == dir })
	}
	return err
}

// Users names nobody.
func (f *FS) Users([]storage.File, bool) []storage.User { return nil }
