package vdcore

import (
	"fmt"
	"sync"

	"vdfs/vdcore/storage"
)

const (
	tablePage    = 8 << 10  // bytes; 2048 VDI entries or 4 VMDK grain tables
	tablesBudget = 16 << 20 // bytes all pages of one chain may take
)

// Tables is a bounded cache of table pages, shared by the images of a chain, so
// that a map of any size costs a fixed amount of memory. What changes in a
// table goes through WriteAt.
type Tables struct {
	mu    sync.Mutex
	pages map[tableKey][]byte
	order []tableKey // oldest first
}

type tableKey struct {
	file storage.File
	page int64
}

// NewTables makes an empty cache.
func NewTables() *Tables { return &Tables{pages: map[tableKey][]byte{}} }

// ReadAt fills p from f at off. A table that reaches past the end of the file is
// ErrCorrupt.
func (t *Tables) ReadAt(f storage.File, p []byte, off int64) error {
	for len(p) > 0 {
		page, err := t.page(f, off/tablePage)
		if err != nil {
			return err
		}
		in := off % tablePage
		if in >= int64(len(page)) {
			return fmt.Errorf("%s: table at %d reaches past the end of the file: %w", f.Path(), off, ErrCorrupt)
		}
		n := copy(p, page[in:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (t *Tables) page(f storage.File, n int64) ([]byte, error) {
	key := tableKey{f, n}
	t.mu.Lock()
	page, ok := t.pages[key]
	t.mu.Unlock()
	if ok {
		return page, nil
	}
	page = make([]byte, tablePage)
	got, err := readAtMost(f, page, n*tablePage)
	if err != nil {
		return nil, err
	}
	page = page[:got:got]
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.pages[key]; !ok {
		t.pages[key] = page
		t.order = append(t.order, key)
	}
	for len(t.order) > tablesBudget/tablePage {
		delete(t.pages, t.order[0])
		t.order = t.order[1:]
	}
	return page, nil
}

// drop lets go of all pages.
func (t *Tables) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pages, t.order = map[tableKey][]byte{}, nil
}

// WriteAt writes p to f at off, and to the pages in memory. Pages are replaced,
// never changed: readers hold them without a lock.
func (t *Tables) WriteAt(f storage.File, p []byte, off int64) error {
	if _, err := f.WriteAt(p, off); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(p) > 0 {
		in := off % tablePage
		n := min(tablePage-in, int64(len(p)))
		key := tableKey{f, off / tablePage}
		if old, ok := t.pages[key]; ok {
			page := make([]byte, max(int64(len(old)), in+n))
			copy(page, old)
			copy(page[in:], p[:n])
			t.pages[key] = page
		}
		p, off = p[n:], off+n
	}
	return nil
}
