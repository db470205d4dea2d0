package vdcore

import (
	"errors"
	"fmt"

	"vdfs/vdcore/storage"
)

// What can be wrong with an image or a chain. Every error of this package and of
// a backend wraps one of these, the file and the layer; internal/cli maps them to
// exit codes and fs to errno, each in one place.
var (
	// Opening an image.
	ErrFormat      = errors.New("not a disk image this program knows") // exit 2
	ErrUnsupported = errors.New("not supported")                       // exit 2: known, but this variant or version is not read
	ErrVariant     = fmt.Errorf("%w by the format", ErrUnsupported)    // exit 1: asked for a new image
	ErrCorrupt     = errors.New("damaged")                             // exit 4: metadata contradict themselves or the file
	ErrOutside     = storage.ErrOutside                                // exit 2: a name inside the image leads elsewhere
	ErrNotRegular  = storage.ErrNotRegular                             // exit 2

	// Putting a chain together.
	ErrMissing  = errors.New("missing")                    // exit 3: a parent or an extent file is not there
	ErrMismatch = errors.New("identity mismatch")          // exit 4: found, but not the one the child was made from
	ErrCycle    = errors.New("the parent chain is cyclic") // exit 4

	// Reading and writing.
	ErrLost     = errors.New("data lost")                // EIO: the layer knows that it held this range and cannot say what
	ErrReadOnly = errors.New("read-only")                // EROFS
	ErrNoSpace  = errors.New("past the end of the disk") // ENOSPC
	ErrInUse    = errors.New("in use")                   // exit 5, EBUSY
)
