package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Every is how often files are looked at while nothing else asks for it.
const Every = 10 * time.Second

// ErrChanged: a file of an image changed while it was in use.
var ErrChanged = errors.New("changed while mounted")

// What can become of a file.
const (
	Size     = "size"
	Modified = "mtime"
	Changed  = "ctime"
	Identity = "identity" // another file has its name
	Gone     = "gone"     // no file has its name
	Unseen   = "unseen"   // at the end it could not be looked at
)

// Change is what became of a file.
type Change struct {
	File string    `json:"file"` // absolute path
	What []string  `json:"what"` // of the above
	When time.Time `json:"when"` // it was noticed first, UTC
}

func (c Change) String() string { return fmt.Sprintf("%s: %s", c.File, strings.Join(c.What, ", ")) }

// Watch looks whether files stay what they were.
type Watch struct {
	files []*watched
	told  func(Change)
	stop  chan struct{}

	looking sync.Mutex // held during a look
	mu      sync.Mutex // guards the changes of files
}

// watched is a file and what became of it.
type watched struct {
	path   string
	was    storage.Stat
	change Change
}

// NewWatch watches the files of all layers of a chain, but for a topmost image that is
// open for writing. told is called for every change that is noticed, from any goroutine,
// and again when more is noticed of the same file.
func NewWatch(c *vdcore.Chain, told func(Change)) (*Watch, error) {
	w := &Watch{told: told, stop: make(chan struct{})}
	for _, l := range c.Layers() {
		if c.Top().Writable() && l == c.Top().Layer() {
			continue
		}
		for _, f := range l.Image.Files() {
			f = storage.Whole(f) // a part has no path of its own
			st, err := storage.Opened(f)
			if err != nil {
				return nil, err
			}
			w.files = append(w.files, &watched{path: f.Path(), was: st})
		}
	}
	return w, nil
}

// Start looks now and then, until Stop. Where a look takes long, as on a network, the
// next one comes later.
func (w *Watch) Start() {
	go func() {
		timer := time.NewTimer(Every)
		defer timer.Stop()
		for {
			select {
			case <-w.stop:
				return
			case began := <-timer.C:
				w.Look()
				timer.Reset(max(Every, 100*time.Since(began)))
			}
		}
	}()
}

// Stop ends what Start began, once. It does not wait for a look that is on its way: one
// at a file system that does not answer would not end.
func (w *Watch) Stop() { close(w.stop) }

// Look looks at all files, unless somebody else does just now. A nil Watch has none.
func (w *Watch) Look() {
	if w == nil || !w.looking.TryLock() {
		return
	}
	defer w.looking.Unlock()
	w.look(false)
}

// Finish looks at all files a last time, and returns what has become of them since the
// beginning as an error, nil if nothing has.
func (w *Watch) Finish() error {
	w.looking.Lock()
	defer w.looking.Unlock()
	w.look(true)
	var errs []error
	for _, c := range w.Changes() {
		errs = append(errs, fmt.Errorf("%s: %w (%s)", c.File, ErrChanged, strings.Join(c.What, ", ")))
	}
	return errors.Join(errs...)
}

// look looks at all files. A file system that does not answer as it should may do so
// again, unless there is no other look.
func (w *Watch) look(last bool) {
	for _, f := range w.files {
		what := f.become()
		if !last && slices.Contains(what, Unseen) {
			continue
		}
		if c, news := w.note(f, what); news {
			w.told(c)
		}
	}
}

// become says what a file is not any more.
func (f *watched) become() (what []string) {
	is, err := storage.StatPath(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return []string{Gone}
	case err != nil:
		return []string{Unseen}
	case is.ID != f.was.ID:
		return []string{Identity}
	}
	if is.Size != f.was.Size {
		what = append(what, Size)
	}
	if !is.Modified.Equal(f.was.Modified) {
		what = append(what, Modified)
	}
	if !is.Changed.Equal(f.was.Changed) {
		what = append(what, Changed)
	}
	return what
}

// note adds to what is known of a file, and reports whether it was not.
func (w *Watch) note(f *watched, what []string) (c Change, news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, word := range what {
		if !slices.Contains(f.change.What, word) {
			f.change.What = append(slices.Clone(f.change.What), word)
			news = true
		}
	}
	if news && f.change.File == "" {
		f.change.File, f.change.When = f.path, time.Now().UTC()
	}
	return f.change, news
}

// Changes lists the files that were found changed.
func (w *Watch) Changes() []Change {
	list := []Change{}
	if w == nil {
		return list
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.files {
		if f.change.File != "" {
			list = append(list, f.change)
		}
	}
	return list
}
