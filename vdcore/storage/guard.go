package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Guard locks through an open file of its own. A lock of this kind (F_OFD_SETLK)
// is gone when the last reference to its open file is; a mapping is a reference,
// so a page of address space holds the locks and no descriptor is used up, which
// counts with hundreds of layers. The mapping is never touched.
func (o *osFile) Guard(take, conflict []int64) (release func(), err error) {
	f, err := o.reopen()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := statOf(f); err != nil || st.ID != o.id {
		return nil, errors.Join(o.wrap("lock", ErrChanged), err)
	}
	for _, at := range take {
		if err := setLock(f, at); err != nil {
			return nil, o.wrap("lock", err)
		}
	}
	for _, at := range conflict {
		if err := testLock(f, at); err != nil {
			return nil, o.wrap("lock", err)
		}
	}
	page, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_NONE, unix.MAP_SHARED)
	if err != nil { // a file system without mappings
		return nil, errors.Join(o.wrap("lock", ErrNoLocks), err)
	}
	return func() { unix.Munmap(page) }, nil
}

// setLock takes a shared lock on one byte.
func setLock(f *os.File, at int64) error {
	return lockError(unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}))
}

// testLock asks whether anybody else has a lock of any kind on a byte.
func testLock(f *os.File, at int64) error {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
	if err := lockError(unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk)); err != nil {
		return err
	}
	if lk.Type != unix.F_UNLCK {
		return ErrLocked
	}
	return nil
}

func lockError(err error) error {
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return ErrLocked
	case errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return ErrNoLocks
	}
	return err
}
