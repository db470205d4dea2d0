package cli

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vdfs/vdcore"
)

// pidFile holds the number of the process that serves a mount. The process holds a
// lock on it (flock) as long as it lives, so a number that was given to another process
// meanwhile fools nobody: a file without that lock is stale, and replaced.
type pidFile struct {
	path string
	file *os.File // nil: none was asked for
}

// takePIDFile refuses a file that another process holds, and one that is no pid file.
func takePIDFile(path string) (*pidFile, error) {
	if path == "" {
		return &pidFile{}, nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
		if err != nil {
			return nil, fmt.Errorf("--pid-file: %w", err)
		}
		p := &pidFile{path, f}
		if err := p.take(); err == nil || !errors.Is(err, iofs.ErrNotExist) {
			return p, errors.Join(err, p.closeIf(err))
		}
		f.Close() // its owner has removed it meanwhile: there is room for another one
	}
}

// take locks the file and writes the number; ErrNotExist when it has lost its name.
func (p *pidFile) take() error {
	st, err := p.file.Stat()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(p.file, 32))
	number := strings.TrimSpace(string(text))
	if err != nil || !st.Mode().IsRegular() || strings.Trim(number, "0123456789") != "" || len(text) > 20 {
		return usageError{fmt.Sprintf("--pid-file %s: it is there, and no pid file", p.path)}
	}
	if err := unix.Flock(int(p.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("--pid-file %s is that of process %s, which serves another mount: %w", p.path, number, vdcore.ErrInUse)
	} else if err != nil {
		return fmt.Errorf("--pid-file %s: flock: %w", p.path, err)
	}
	if now, err := os.Lstat(p.path); err != nil || !os.SameFile(st, now) {
		return iofs.ErrNotExist
	}
	if err := p.file.Truncate(0); err != nil {
		return fmt.Errorf("--pid-file: %w", err)
	}
	if _, err := p.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("--pid-file: %w", err)
	}
	return nil
}

func (p *pidFile) closeIf(err error) error {
	if err == nil {
		return nil
	}
	return p.file.Close()
}

// remove takes the file away, and then the lock off it.
func (p *pidFile) remove() {
	if p.file == nil {
		return
	}
	if err := errors.Join(os.Remove(p.path), p.file.Close()); err != nil {
		log.Debug().Err(err).Msg("pid file")
	}
}
