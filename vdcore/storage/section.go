package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// section is a part of a file, read as a file of its own.
type section struct {
	whole     File
	path      string
	off, size int64
}

// NewSection shows [off, off+size) of a file as a read-only file called path, which
// owns whole and closes it. Size and the places it is asked for are the part's; locks
// are those of the whole. It has no descriptor: whoever reads one by position would
// have to know where the part begins. size may reach past the end of whole; what is
// not there is not read as zeros.
func NewSection(whole File, path string, off, size int64) File {
	return &section{whole, path, off, size}
}

// Whole is the file this is a part of.
func (s *section) Whole() File { return s.whole }

func (s *section) Path() string { return s.path }

func (s *section) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(s.whole, s.off, s.size).ReadAt(p, off)
}

// Stat tells a part from the whole and from other parts by an identity no file of the
// machine has: its device is the whole's, complemented. The time is the whole's.
func (s *section) Stat() (Stat, error) {
	st, err := s.whole.Stat()
	st.ID = FileID{Dev: ^st.ID.Dev, Ino: st.ID.Ino<<32 ^ uint64(s.off)}
	st.Size, st.Allocated = s.size, min(s.size, st.Allocated)
	return st, err
}

// NextData and NextHole find no holes: archives are written without.
func (s *section) NextData(off int64) (int64, error) { return off, nil }

func (s *section) NextHole(int64) (int64, error) { return s.size, nil }

func (s *section) Guard(take, conflict []int64) (func(), error) { return s.whole.Guard(take, conflict) }

func (s *section) Pin() (int, func(), error) { return -1, nil, ErrNoDescriptor }

func (s *section) Close() error { return s.whole.Close() }

// refuse is the answer to whatever would change a part.
func (s *section) refuse(op string) error {
	return &fs.PathError{Op: op, Path: s.path, Err: fmt.Errorf("part of a file: %w", errors.ErrUnsupported)}
}

func (s *section) WriteAt([]byte, int64) (int, error) { return 0, s.refuse("write") }
func (s *section) Truncate(int64) error               { return s.refuse("truncate") }
func (s *section) Sync() error                        { return s.refuse("sync") }
func (s *section) DataSync() error                    { return s.refuse("sync") }
func (s *section) Punch(int64, int64) error           { return s.refuse("punch") }
func (s *section) Allocate(int64, int64) error        { return s.refuse("allocate") }
