package storage

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxIdle bounds the descriptors that are open but not pinned.
const maxIdle = 128

// pool remembers which unpinned files hold a descriptor, oldest first.
type pool struct {
	mu   sync.Mutex
	idle []*osFile
}

// add notes that f opened its descriptor, and closes the oldest ones over the
// limit. The caller holds no osFile lock.
func (p *pool) add(f *osFile) {
	most := maxIdle
	if Scarce() {
		most = fewIdle
	}
	p.mu.Lock()
	p.idle = append(p.idle, f)
	var victims []*osFile
	if over := len(p.idle) - most; over > 0 {
		victims = append(victims, p.idle[:over]...)
		p.idle = append(p.idle[:0], p.idle[over:]...)
	}
	p.mu.Unlock()
	for _, v := range victims {
		v.park()
	}
}

func (p *pool) remove(f *osFile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, g := range p.idle {
		if g == f {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
}

// osFile is a file of the host. Its descriptor comes and goes.
type osFile struct {
	path   string
	reopen func() (*os.File, error)
	pool   *pool
	id     FileID
	opened Stat // before anything was read

	pins   atomic.Int32
	mu     sync.RWMutex // readers use f, the writer opens or closes it
	f      *os.File     // nil while parked
	closed bool
}

func newOSFile(path string, f *os.File, st Stat, p *pool, reopen func() (*os.File, error)) *osFile {
	o := &osFile{path: path, f: f, id: st.ID, opened: st, pool: p, reopen: reopen}
	openFiles.Add(1)
	p.add(o)
	return o
}

// park closes the descriptor of a file nobody has pinned.
func (o *osFile) park() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.f != nil && o.pins.Load() == 0 {
		o.f.Close()
		o.f = nil
		openFiles.Add(-1)
	}
}

// hold returns the open descriptor with o.mu read-locked; the caller unlocks.
func (o *osFile) hold() (*os.File, error) {
	for {
		o.mu.RLock()
		if o.f != nil {
			return o.f, nil
		}
		o.mu.RUnlock()
		if err := o.wake(); err != nil {
			return nil, err
		}
	}
}

// wake opens the descriptor again and checks that it is still the same file.
func (o *osFile) wake() error {
	opened, err := o.wakeLocked()
	if opened {
		o.pool.add(o)
	}
	return err
}

func (o *osFile) wakeLocked() (opened bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false, fs.ErrClosed
	}
	if o.f != nil {
		return false, nil
	}
	f, err := whenThereIs(o.reopen)
	if err != nil {
		return false, err
	}
	if st, err := statOf(f); err != nil || st.ID != o.id {
		f.Close()
		return false, errors.Join(&fs.PathError{Op: "reopen", Path: o.path, Err: ErrChanged}, err)
	}
	o.f = f
	openFiles.Add(1)
	return true, nil
}

func (o *osFile) Path() string { return o.path }

func (o *osFile) Opened() Stat { return o.opened }

func (o *osFile) ReadAt(p []byte, off int64) (int, error) {
	f, err := o.hold()
	if err != nil {
		return 0, err
	}
	defer o.mu.RUnlock()
	return f.ReadAt(p, off)
}

func (o *osFile) WriteAt(p []byte, off int64) (int, error) {
	f, err := o.hold()
	if err != nil {
		return 0, err
	}
	defer o.mu.RUnlock()
	return f.WriteAt(p, off)
}

// with runs fn on the open descriptor.
func (o *osFile) with(fn func(f *os.File) error) error {
	f, err := o.hold()
	if err != nil {
		return err
	}
	defer o.mu.RUnlock()
	return fn(f)
}

func (o *osFile) Stat() (st Stat, err error) {
	err = o.with(func(f *os.File) error {
		st, err = statOf(f)
		return err
	})
	return st, err
}

func (o *osFile) Truncate(size int64) error {
	return o.with(func(f *os.File) error { return f.Truncate(size) })
}

func (o *osFile) Sync() error { return o.with((*os.File).Sync) }

func (o *osFile) DataSync() error {
	return o.with(func(f *os.File) error { return o.wrap("fdatasync", unix.Fdatasync(int(f.Fd()))) })
}

func (o *osFile) StartWriting(pos, n int64) {
	o.with(func(f *os.File) error { return unix.SyncFileRange(int(f.Fd()), pos, n, unix.SYNC_FILE_RANGE_WRITE) })
}

func (o *osFile) Punch(off, n int64) error {
	return o.with(func(f *os.File) error {
		return o.wrap("punch", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n))
	})
}

func (o *osFile) NextData(off int64) (int64, error) { return o.seek(off, unix.SEEK_DATA) }

func (o *osFile) NextHole(off int64) (int64, error) { return o.seek(off, unix.SEEK_HOLE) }

// seek looks for data or a hole. The file position it moves is used by nobody.
func (o *osFile) seek(off int64, whence int) (next int64, err error) {
	err = o.with(func(f *os.File) error {
		next, err = unix.Seek(int(f.Fd()), off, whence)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINVAL) && whence == unix.SEEK_DATA: // no such notion here: all is data
			next = off
			return nil
		case !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.EINVAL):
			return o.wrap("seek", err)
		}
		st, err := statOf(f) // nothing of the kind up to the end, which may have moved
		next = max(st.Size, off)
		return err
	})
	return next, err
}

func (o *osFile) Allocate(off, n int64) error {
	return o.with(func(f *os.File) error {
		var err error = unix.EINTR
		for errors.Is(err, unix.EINTR) { // tmpfs gives up at a signal, and undoes what it did
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n)
		}
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = ErrNoAllocate
		}
		return o.wrap("fallocate", err)
	})
}

func (o *osFile) Pin() (fd int, release func(), err error) {
	err = o.with(func(f *os.File) error {
		o.pins.Add(1)
		fd = int(f.Fd())
		return nil
	})
	if err != nil {
		return -1, nil, err
	}
	var once sync.Once
	return fd, func() { once.Do(o.unpin) }, nil
}

// unpin puts the file back among the idle ones when nobody else holds it.
func (o *osFile) unpin() {
	if o.pins.Add(-1) == 0 {
		o.pool.remove(o) // at most one place in the list
		o.pool.add(o)
	}
}

func (o *osFile) Close() error {
	o.pool.remove(o)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	if o.f == nil {
		return nil
	}
	err := o.f.Close()
	o.f = nil
	openFiles.Add(-1)
	return err
}

func (o *osFile) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: o.path, Err: err}
}

func statOf(f *os.File) (Stat, error) {
	st, err := fstat(f)
	if err != nil {
		return Stat{}, err
	}
	return asStat(&st), nil
}

// statRegular is statOf for a file just opened, which may be something else than what
// was looked at before.
func statRegular(f *os.File) (Stat, error) {
	st, err := fstat(f)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = &fs.PathError{Op: "open", Path: f.Name(), Err: ErrNotRegular}
	}
	if err != nil {
		return Stat{}, err
	}
	return asStat(&st), nil
}

func fstat(f *os.File) (st unix.Stat_t, err error) {
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return st, nil
}

func asStat(st *unix.Stat_t) Stat {
	return Stat{
		Size:      st.Size,
		Allocated: st.Blocks * 512,
		Modified:  time.Unix(st.Mtim.Unix()),
		Changed:   time.Unix(st.Ctim.Unix()),
		ID:        FileID{Dev: st.Dev, Ino: st.Ino},
	}
}

// StatPath is what is known of the file a path of the host leads to now.
func StatPath(path string) (Stat, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Stat{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return asStat(&st), nil
}
