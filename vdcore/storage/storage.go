package storage

import (
	"errors"
	"io"
	"time"
)

var (
	// ErrOutside: the name leads out of the folders an image may refer to.
	ErrOutside = errors.New("outside the folders this image may refer to")
	// ErrNotRegular: a folder, device, pipe or socket where a file was expected.
	ErrNotRegular = errors.New("not a regular file")
	// ErrChanged: the file behind the name is not the one that was opened first.
	ErrChanged = errors.New("file was replaced while open")
	// ErrNoDescriptor: the file is not backed by a kernel descriptor.
	ErrNoDescriptor = errors.New("file has no descriptor")
	// ErrTooMany: a folder has more files than are looked at.
	ErrTooMany = errors.New("too many files")
	// ErrLocked: another open file holds a conflicting lock.
	ErrLocked = errors.New("locked by another process")
)

// Mode says what a file is opened for.
type Mode int

const (
	ReadOnly  Mode = iota
	ReadWrite      // an existing file
	Create         // a new file; an existing one is an error
)

// FileID tells two names of one file from two files.
type FileID struct{ Dev, Ino uint64 }

// Stat is what is known of a file without reading it. Sizes are bytes.
type Stat struct {
	Size      int64
	Allocated int64 // bytes the host file system has allocated
	Modified  time.Time
	ID        FileID
}

// LockKind is the kind of an advisory byte-range lock.
type LockKind int

const (
	Unlock LockKind = iota
	LockShared
	LockExclusive
)

// File is an open regular file, used by position only. Every method may be
// called from many goroutines.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Path is the absolute path the file was opened by, for messages.
	Path() string
	Stat() (Stat, error)
	Truncate(size int64) error
	// Sync makes data and metadata durable, DataSync the data and what is
	// needed to read it back.
	Sync() error
	DataSync() error
	// Punch deallocates [off, off+n); the range reads as zeros afterwards and
	// the size stays.
	Punch(off, n int64) error
	// NextData returns the first offset at or after off that is not in a hole
	// of the file, or the file size when only a hole follows.
	NextData(off int64) (int64, error)
	// NextHole returns the first offset at or after off that is in a hole, or the
	// file size when data goes on to the end.
	NextHole(off int64) (int64, error)
	// Lock sets or removes an advisory lock on [off, off+n) that belongs to this
	// open file (F_OFD_SETLK), without waiting. ErrLocked when it conflicts. A lock
	// is gone when the descriptor is: pin the file for as long as it is held.
	Lock(kind LockKind, off, n int64) error
	// Pin returns the descriptor and keeps it open until release is called.
	// ErrNoDescriptor when there is none.
	Pin() (fd int, release func(), err error)
	Close() error
}

// FS opens the files an image may refer to. Paths are absolute and clean.
type FS interface {
	// Open fails with ErrOutside, ErrNotRegular or an fs.ErrNotExist.
	Open(path string, mode Mode) (File, error)
	// List names the regular files directly in a folder, sorted. A folder that
	// does not exist lists as empty; ErrTooMany comes with the names looked at.
	List(dir string) ([]string, error)
	// Below narrows the FS to one folder and what lies below it (and the
	// --search folders): the files one image is made of.
	Below(dir string) FS
	// Search names the folders the user added.
	Search() []string
}

// ReadFull reads len(p) bytes at off and turns a short file into
// io.ErrUnexpectedEOF.
func ReadFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
