package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A process that serves a mount is nobody's child, so its exit code is lost on
// `vdfs umount`, which wants to know whether the images were closed well. The
// process therefore keeps an anonymous file in memory and writes there, just before
// it ends, how closing went. Who ends the mount opens that file through /proc while
// the process still serves, waits for its end, and reads. Nothing is left behind,
// whatever dies when, and /proc lets in who may end the mount: its owner and root.
// A file that stays empty tells as well: the process was killed.

// outcomeName is what the file is called in /proc/<pid>/fd.
const outcomeName = "vdfs-outcome"

// outcome is the serving side's end.
type outcome struct{ file *os.File }

func newOutcome() (outcome, error) {
	fd, err := unix.MemfdCreate(outcomeName, unix.MFD_CLOEXEC)
	if err != nil {
		return outcome{}, fmt.Errorf("memfd_create: %w", err)
	}
	return outcome{os.NewFile(uintptr(fd), outcomeName)}, nil
}

// tell leaves how serving ended, as an exit code and a message.
func (o outcome) tell(err error) {
	text := strconv.Itoa(exitCode(err)) + "\n"
	if err != nil {
		text += err.Error()
	}
	if _, werr := o.file.WriteAt([]byte(text), 0); werr != nil {
		log.Error().Err(werr).Msg("outcome")
	}
}

// openOutcome opens the file of the process that serves a mount.
func openOutcome(pid int) (*os.File, error) {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if target, _ := os.Readlink(link); strings.HasPrefix(target, "/memfd:"+outcomeName+" ") {
			return os.Open(link)
		}
	}
	return nil, fmt.Errorf("process %d: %w", pid, os.ErrNotExist)
}

// errNoOutcome: the process ended without a word.
var errNoOutcome = errors.New("it was killed before its images were closed; what was not synced is lost, vdfs check shows how they are")

// readOutcome returns, once the process is gone, how it ended.
func readOutcome(f *os.File) error {
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	number, message, found := strings.Cut(string(text), "\n")
	code, err := strconv.Atoi(number)
	switch {
	case !found || err != nil:
		return codedError{errNoOutcome, exitIO}
	case code != exitOK:
		return codedError{errors.New(message), code}
	}
	return nil
}
