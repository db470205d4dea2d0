package vdtest

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"vdfs/vdcore/storage"
)

// Mem is a file system in memory. Paths are absolute. It counts open files, so
// that a test can see leaks.
type Mem struct {
	mu     sync.Mutex
	files  map[string]*memData
	nextID uint64
	open   atomic.Int64
	held   atomic.Int64 // guards
	search []string
	below  string // "" or the folder this view is narrowed to
	root   *Mem   // the file system itself
}

type memData struct {
	mu   sync.RWMutex
	id   uint64
	data []byte
}

var _ storage.FS = (*Mem)(nil)

// NewMem makes an empty file system with the given search folders.
func NewMem(search ...string) *Mem {
	m := &Mem{files: map[string]*memData{}, search: search}
	m.root = m
	return m
}

// Put stores a file; the bytes are not copied.
func (m *Mem) Put(path string, data []byte) {
	m.root.mu.Lock()
	defer m.root.mu.Unlock()
	m.root.nextID++
	m.root.files[path] = &memData{id: m.root.nextID, data: data}
}

// Link makes a second name of one file.
func (m *Mem) Link(old, path string) error {
	m.root.mu.Lock()
	defer m.root.mu.Unlock()
	d, ok := m.root.files[old]
	if !ok {
		return &fs.PathError{Op: "link", Path: old, Err: fs.ErrNotExist}
	}
	if _, taken := m.root.files[path]; taken {
		return &fs.PathError{Op: "link", Path: path, Err: fs.ErrExist}
	}
	m.root.files[path] = d
	return nil
}

// Bytes returns a file's content.
func (m *Mem) Bytes(path string) []byte {
	m.root.mu.Lock()
	defer m.root.mu.Unlock()
	return m.root.files[path].data
}

// OpenFiles is how many files are open.
func (m *Mem) OpenFiles() int64 { return m.root.open.Load() }

// Guards is how many locks of files are held.
func (m *Mem) Guards() int64 { return m.root.held.Load() }

func (m *Mem) Search() []string { return m.root.search }

func (m *Mem) Below(dir string) storage.FS { return &Mem{root: m.root, below: dir} }

// allowed keeps a narrowed view to its folder and the search folders.
func (m *Mem) allowed(path string) bool {
	if m.below == "" {
		return true
	}
	for _, dir := range append([]string{m.below}, m.root.search...) {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

func (m *Mem) Open(path string, mode storage.Mode) (storage.File, error) {
	path = filepath.Clean(path)
	if !m.allowed(path) || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("%s: %w", path, storage.ErrOutside)
	}
	m.root.mu.Lock()
	defer m.root.mu.Unlock()
	d, ok := m.root.files[path]
	if mode.Creates() {
		if ok {
			return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
		m.root.nextID++
		d, ok = &memData{id: m.root.nextID}, true
		m.root.files[path] = d
	}
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	m.root.open.Add(1)
	return &memFile{fs: m.root, path: path, d: d}, nil
}

func (m *Mem) List(dir string) ([]string, error) {
	m.root.mu.Lock()
	defer m.root.mu.Unlock()
	var names []string
	for p := range m.root.files {
		if filepath.Dir(p) == dir {
			names = append(names, filepath.Base(p))
		}
	}
	sort.Strings(names)
	return names, nil
}

func (m *Mem) Remove(path string) error {
	m.root.mu.Lock()
	defer m.root.mu.Unlock()
	if _, ok := m.root.files[path]; !ok {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	delete(m.root.files, path)
	return nil
}

func (m *Mem) Rename(old, path string) error {
	if err := m.Link(old, path); err != nil {
		return err
	}
	return m.Remove(old)
}

func (m *Mem) Replace(old, path string) error {
	if err := m.Remove(path); err != nil {
		return err
	}
	return m.Rename(old, path)
}

func (m *Mem) CopyOwner(string, string) error            { return nil }
func (m *Mem) SyncDir(string) error                      { return nil }
func (m *Mem) Users([]storage.File, bool) []storage.User { return nil }

type memFile struct {
	fs     *Mem
	path   string
	d      *memData
	closed atomic.Bool
}

func (f *memFile) Path() string { return f.path }

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if f.closed.Load() {
		return 0, fs.ErrClosed
	}
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	return bytes.NewReader(f.d.data).ReadAt(p, off)
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if end := off + int64(len(p)); end > int64(len(f.d.data)) {
		f.d.data = append(f.d.data, make([]byte, end-int64(len(f.d.data)))...)
	}
	return copy(f.d.data[off:], p), nil
}

func (f *memFile) Stat() (storage.Stat, error) {
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	n := int64(len(f.d.data))
	return storage.Stat{Size: n, Allocated: n, ID: storage.FileID{Ino: f.d.id}}, nil
}

func (f *memFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if size <= int64(len(f.d.data)) {
		f.d.data = f.d.data[:size]
		return nil
	}
	f.d.data = append(f.d.data, make([]byte, size-int64(len(f.d.data)))...)
	return nil
}

func (f *memFile) Sync() error     { return nil }
func (f *memFile) DataSync() error { return nil }

func (f *memFile) Punch(off, n int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	size := int64(len(f.d.data))
	clear(f.d.data[min(off, size):min(off+n, size)])
	return nil
}

func (f *memFile) NextData(off int64) (int64, error) { return off, nil }

func (f *memFile) NextHole(int64) (int64, error) {
	st, err := f.Stat()
	return st.Size, err
}

func (f *memFile) Allocate(int64, int64) error { return nil }

// Guard counts what is held, and keeps nobody out.
func (f *memFile) Guard([]int64, []int64) (func(), error) {
	held := &f.fs.root.held
	held.Add(1)
	return sync.OnceFunc(func() { held.Add(-1) }), nil
}

func (f *memFile) Pin() (int, func(), error) { return -1, nil, storage.ErrNoDescriptor }

func (f *memFile) Close() error {
	if !f.closed.Swap(true) {
		f.fs.open.Add(-1)
	}
	return nil
}

var _ io.ReaderAt = (*memFile)(nil)
