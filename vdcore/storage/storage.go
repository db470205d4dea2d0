package storage

import (
	"errors"
	"fmt"
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
	// ErrNoAllocate: the file system cannot reserve space.
	ErrNoAllocate = errors.New("space cannot be reserved here")
	// ErrNoLocks: the file system has no advisory locks.
	ErrNoLocks = errors.New("no file locks here")
	// ErrLocked: another open file holds a conflicting lock.
	ErrLocked = errors.New("locked by another process")
)

// Mode says what a file is opened for.
type Mode int

const (
	ReadOnly      Mode = iota
	ReadWrite          // an existing file
	Create             // a new file; an existing one is an error
	CreatePrivate      // the same, for nobody but its owner to read
)

// Creates reports whether the mode makes a new file.
func (m Mode) Creates() bool { return m == Create || m == CreatePrivate }

// FileID tells two names of one file from two files.
type FileID struct{ Dev, Ino uint64 }

// Stat is what is known of a file without reading it. Sizes are bytes.
type Stat struct {
	Size      int64
	Allocated int64 // bytes the host file system has allocated
	Modified  time.Time
	Changed   time.Time // content, mode, owner or names: nobody can set it back
	ID        FileID
}

// Same reports whether a file is what it was. The space it takes may settle later, so
// that does not count.
func (s Stat) Same(was Stat) bool {
	return s.ID == was.ID && s.Size == was.Size && s.Modified.Equal(was.Modified) && s.Changed.Equal(was.Changed)
}

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
	// Allocate has the host reserve space for [off, off+n), so that writing there
	// does not fail for want of it; content and size stay. ErrNoAllocate where the
	// file system cannot.
	Allocate(off, n int64) error
	// Guard takes shared advisory locks on single bytes, without waiting, and then
	// fails with ErrLocked if another open file has a lock on a byte of conflict. The
	// locks are held until release is called, whatever becomes of descriptors;
	// ErrNoLocks where the file system has none.
	Guard(take, conflict []int64) (release func(), err error)
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
	// Remove deletes a file and makes that durable.
	Remove(path string) error
	// Rename gives a file another name, perhaps in another folder, and makes that
	// durable. It never replaces: a file of that name is an fs.ErrExist. A crash leaves
	// the old name or the new one. Files that are open must not be read any more.
	Rename(old, path string) error
	// Replace is Rename onto a file that is there, which is gone then.
	Replace(old, path string) error
	// Link gives a file a second name, which no file may have, and makes that durable;
	// errors.ErrUnsupported where the file system has no such thing.
	Link(old, path string) error
	// CopyOwner gives a file the mode and the owner of another.
	CopyOwner(model, path string) error
	// SyncDir makes the names in a folder durable, those of files just created.
	SyncDir(dir string) error
	// Users names the other processes that have one of the files open, as far as
	// can be seen; writing: only those that write, which takes less time.
	Users(files []File, writing bool) []User
}

// User is a process that has a file open.
type User struct {
	PID     int
	Name    string
	File    File
	Writing bool // opened for writing
}

func (u User) String() string { return fmt.Sprintf("process %d (%s)", u.PID, u.Name) }

// Opened is what was known of a file when it was opened, before anything was read of
// it, and what is known now where nobody noted that.
func Opened(f File) (Stat, error) {
	if o, ok := f.(interface{ Opened() Stat }); ok {
		return o.Opened(), nil
	}
	return f.Stat()
}

// Whole is the file that f is a part of, by its method of the same name, or f itself.
func Whole(f File) File {
	if p, ok := f.(interface{ Whole() File }); ok {
		return p.Whole()
	}
	return f
}

// StartWriting has the kernel begin to bring a range of a file to the disk, where it can,
// so that the Sync to come, which waits for it, has less to wait for. An error of the disk
// shows in that Sync.
func StartWriting(f File, pos, n int64) {
	if s, ok := f.(interface{ StartWriting(pos, n int64) }); ok {
		s.StartWriting(pos, n)
	}
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

// zeroChunk is how much Zero writes at a time.
const zeroChunk = 64 << 10

// Zero makes [off, off+n) read as zeros and gives the space back where the file
// system can. Beyond the end of the file there is nothing to do.
func Zero(f File, off, n int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if n = min(n, st.Size-off); n <= 0 {
		return nil
	}
	err = f.Punch(off, n)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return Fill(f, off, n)
}

// Fill writes zeros to [off, off+n).
func Fill(f File, off, n int64) error {
	zeros := make([]byte, min(n, zeroChunk))
	for n > 0 {
		done, err := f.WriteAt(zeros[:min(n, zeroChunk)], off)
		if err != nil {
			return err
		}
		off, n = off+int64(done), n-int64(done)
	}
	return nil
}

// Copy makes [to, to+n) of dst what [from, from+n) of src is, through buf; the two may
// be one file. Holes become holes, as does what lies past the end of src.
func Copy(dst File, to int64, src File, from, n int64, buf []byte) error {
	for at := int64(0); at < n; {
		data, err := src.NextData(from + at)
		if err != nil {
			return err
		}
		hole, err := src.NextHole(data)
		if err != nil {
			return err
		}
		if hole = min(hole, from+n); hole <= data { // nothing more
			return Zero(dst, to+at, n-at)
		}
		if skip := data - from - at; skip > 0 {
			if err := Zero(dst, to+at, skip); err != nil {
				return err
			}
			at += skip
		}
		part := buf[:min(hole-data, int64(len(buf)))]
		if err := ReadFull(src, part, data); err != nil {
			return err
		}
		if _, err := dst.WriteAt(part, to+at); err != nil {
			return err
		}
		at += int64(len(part))
	}
	return nil
}
