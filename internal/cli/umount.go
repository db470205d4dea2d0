package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"vdfs/fs"
	"vdfs/internal/shell"
	"vdfs/vdcore"
)

func umountCommand() *cli.Command {
	return &cli.Command{
		Name: "umount", Aliases: []string{"unmount"}, Usage: "end mounts, and return when everything is on disk",
		ArgsUsage: "MOUNTPOINT…",
		Description: "What was written is synced first. When that fails, the mount stays, so that the data can\n" +
			"still be copied elsewhere, and the exit code is 7. Otherwise it is that of closing the\n" +
			"images: after 0 every byte is on disk.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "unmount although not all that was written can be saved"},
		},
		Action: runUmount,
	}
}

const (
	// closeTimeout is how long the daemon of a read-only mount may take to close its
	// images. One that writes takes as long as it takes.
	closeTimeout = 30 * time.Second
	// patience is when somebody who waits is told for what.
	patience = 2 * time.Second
)

func runUmount(c *cli.Context) error {
	if !c.Args().Present() {
		return usageError{"umount takes MOUNTPOINT…; vdfs list shows them"}
	}
	var errs []error
	for _, path := range c.Args().Slice() {
		errs = append(errs, umount(path, c.Bool("force")))
	}
	return errors.Join(errs...)
}

func umount(path string, force bool) error {
	path = resolveMountpoint(path)
	e, err := fs.MountAt(path)
	switch {
	case err != nil:
		return err
	case e == nil:
		return usageError{fmt.Sprintf("%s is not mounted; vdfs list shows what is", path)}
	case e.Type != fs.FSType:
		return usageError{fmt.Sprintf("%s is a mount of type %s, not of vdfs; umount ends it", path, e.Type)}
	}
	server := serverOf(e)
	defer server.close()
	server.announce(path)
	if server.writes && server.state == stateServing {
		if err := syncMount(path); err != nil && !force {
			return codedError{fmt.Errorf("%s stays mounted, because what was written cannot be saved: %w; copy what you need elsewhere, then: vdfs umount --force %s", path, err, shell.Quote(path)), exitIO}
		}
	}
	if err := fs.Unmount(path); err != nil {
		return err
	}
	if err := server.awaitEnd(); err != nil {
		return fmt.Errorf("%s is unmounted, but %w", path, err)
	}
	return nil
}

// servedMount is who serves a mount, as seen while it was mounted: then it vouches
// for the number of its process.
type servedMount struct {
	entry   *fs.Entry
	writes  bool
	long    bool // it has work to do when the mount is gone
	state   string
	pid     int      // 0 when it was not found
	pidfd   int      // -1 when the process was not found
	outcome *os.File // nil when it could not be opened
}

func serverOf(e *fs.Entry) *servedMount {
	p := probe(e.Mountpoint)
	s := &servedMount{entry: e, writes: writable(e), state: p.state, pidfd: -1}
	if p.pid <= 0 && p.state != stateStale {
		p.pid = fs.ServedBy(e.Device)
	}
	if p.pid <= 0 {
		return s
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return s
	}
	s.pid, s.pidfd = p.pid, fd
	if s.outcome, err = openOutcome(p.pid); err != nil {
		log.Debug().Err(err).Msg("how the daemon ends will not be seen")
	}
	return s
}

// writable reports whether the file system was mounted for writing; a mount of it
// can be read-only all the same.
func writable(e *fs.Entry) bool { return slices.Contains(strings.Split(e.Options, ","), "rw") }

// waitingFor is what the daemon does after the mount has gone, or why it does not end.
func (s *servedMount) waitingFor() string {
	switch copied := s.entry.Copied(); {
	case copied != nil:
		return "waiting for the file system to be let go of: " + copied.String()
	case s.long:
		return "waiting for the images to be compared with the manifest"
	case s.writes:
		return "waiting for the images to be written"
	}
	return "waiting for the images to be closed"
}

// announce tells who serves a mount that it is about to be ended, and by whom.
func (s *servedMount) announce(path string) {
	if s.state != stateServing {
		return
	}
	text, err := getxattr(path, fs.XattrEnd)
	s.long = err == nil && string(text) == fs.EndsLong
}

func (s *servedMount) close() {
	if s.pidfd >= 0 {
		unix.Close(s.pidfd)
	}
	if s.outcome != nil {
		s.outcome.Close()
	}
}

// awaitEnd waits for the daemon, which ends when its images are closed, and returns
// how that went.
func (s *servedMount) awaitEnd() error {
	switch {
	case s.state == stateStale && s.writes:
		return codedError{errors.New("its daemon was gone before: what was not synced is lost, vdfs check shows how the images are"), exitIO}
	case s.pidfd < 0 && s.writes:
		return errUnseen
	case s.pidfd < 0:
		return nil
	}
	defer tellLater(s.waitingFor)()
	if err := s.waitEnd(); err != nil {
		return fmt.Errorf("its daemon, process %d, has not ended: %w", s.pid, err)
	}
	switch {
	case s.outcome != nil:
		return readOutcome(s.outcome)
	case s.writes:
		return errUnseen
	}
	return nil
}

// errUnseen: the mount is another user's, or its process is in another namespace.
var errUnseen = codedError{errors.New("its daemon cannot be seen from here, so whether everything is on disk is not known"), exitIO}

// waitEnd returns when the process is gone. It gives up when the file system is still
// mounted elsewhere, which keeps its daemon: soon where somebody has mounted it twice,
// later where it is a copy in another mount namespace, as programs that have one of
// their own come and go. Of a read-only mount it gives up in any case.
func (s *servedMount) waitEnd() error {
	const step = 500 * time.Millisecond
	for began := time.Now(); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.pidfd), Events: unix.POLLIN}}, int(step.Milliseconds()))
		switch waited := time.Since(began); {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("poll: %w", err)
		case n > 0:
			return nil
		case waited > patience && s.writes, waited > closeTimeout:
			if err := s.held(waited > closeTimeout); err != nil {
				return err
			}
		}
	}
}

// held says what keeps the daemon of a file system that was unmounted, nil if nothing
// does but its work, which is waited for.
func (s *servedMount) held(late bool) error {
	if at := s.entry.Elsewhere(); at != "" {
		return fmt.Errorf("%w; it is also mounted on %s", vdcore.ErrInUse, at)
	}
	if !late {
		return nil
	}
	if copied := s.entry.Copied(); copied != nil {
		return fmt.Errorf("%w; %s", vdcore.ErrInUse, copied)
	}
	if s.writes || s.long {
		return nil
	}
	return fmt.Errorf("it has had the images %w for %s since; nothing was to be written to them", vdcore.ErrInUse, closeTimeout)
}

// tellLater tells what is being waited for, unless the returned function is called
// soon.
func tellLater(what func() string) (stop func()) {
	t := time.AfterFunc(patience, func() { log.Info().Msg(clean(what())) })
	return func() { t.Stop() }
}
