package fs

import (
	"errors"
	iofs "io/fs"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// status turns any error into what the kernel is told, in one place. What is
// not known is an I/O error, never anything a program could take for success
// or for the end of the file.
func status(err error) fuse.Status {
	var errno syscall.Errno
	switch {
	case err == nil:
		return fuse.OK
	case errors.Is(err, vdcore.ErrLost), errors.Is(err, vdcore.ErrCorrupt), errors.Is(err, storage.ErrChanged):
		return fuse.EIO
	case errors.Is(err, iofs.ErrNotExist):
		return fuse.ENOENT
	case errors.Is(err, vdcore.ErrReadOnly):
		return fuse.EROFS
	case errors.Is(err, vdcore.ErrInUse), errors.Is(err, storage.ErrLocked):
		return fuse.EBUSY
	case errors.Is(err, vdcore.ErrNoSpace):
		return fuse.Status(syscall.ENOSPC)
	case errors.Is(err, storage.ErrNoAllocate):
		return fuse.Status(syscall.EOPNOTSUPP)
	case errors.As(err, &errno) && passed(errno):
		return fuse.Status(errno)
	}
	return fuse.EIO
}

// passed are the numbers that mean to the caller what they meant here: no data
// follows (SEEK_DATA in the last hole), and the host has no room for the image.
func passed(errno syscall.Errno) bool {
	switch errno {
	case syscall.ENXIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		return true
	}
	return false
}
