package cli

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"vdfs/vdcore"
	"vdfs/vdcore/evidence"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
)

// Exit codes are part of the interface; the README documents them.
const (
	exitOK         = 0
	exitUsage      = 1
	exitOpen       = 2 // cannot open (or not for writing), or unknown format
	exitIncomplete = 3 // a parent or extent file is missing
	exitIntegrity  = 4 // damaged, or not the parent the child was made from
	exitInUse      = 5
	exitFUSE       = 6 // FUSE unavailable, or no permission to mount
	exitIO         = 7 // I/O error, no space, or stopped before the end
	exitChanged    = 8 // an image changed while in use
	exitDiffer     = 9 // compare: the disks differ
)

// usageError is a command line that makes no sense.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

var (
	// errFUSE: mounting is not possible here.
	errFUSE = errors.New("cannot mount")
	// errReported: the message is out already (a child process wrote it).
	errReported = errors.New("reported")
)

// codedError carries an exit code decided by another process.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// exitCode maps errors to exit codes, in one place.
func exitCode(err error) int {
	var usage usageError
	var coded codedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, vdcore.ErrInUse), errors.Is(err, storage.ErrLocked), errors.Is(err, syscall.EBUSY):
		return exitInUse
	case errors.Is(err, errDiffer):
		return exitDiffer
	case errors.Is(err, storage.ErrChanged), errors.Is(err, evidence.ErrChanged):
		return exitChanged
	case errors.Is(err, errFUSE):
		return exitFUSE
	case errors.Is(err, vdcore.ErrMissing):
		return exitIncomplete
	case errors.Is(err, vdcore.ErrMismatch), errors.Is(err, vdcore.ErrCycle), errors.Is(err, vdcore.ErrCorrupt),
		errors.Is(err, imgops.ErrManifest):
		return exitIntegrity
	case errors.Is(err, vdcore.ErrFormat), errors.Is(err, imgops.ErrNoManifest), errors.Is(err, vdcore.ErrUnsupported),
		errors.Is(err, vdcore.ErrOutside), errors.Is(err, vdcore.ErrNotRegular), errors.Is(err, vdcore.ErrReadOnly),
		errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrExist):
		return exitOpen
	case errors.Is(err, context.Canceled):
		return exitIO
	}
	return exitIO
}
