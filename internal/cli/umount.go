package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"vdfs/fs"
	"vdfs/vdcore"
)

func umountCommand() *cli.Command {
	return &cli.Command{
		Name: "umount", Aliases: []string{"unmount"}, Usage: "end mounts, and return when the images are closed",
		ArgsUsage: "MOUNTPOINT…",
		Action:    runUmount,
	}
}

// closeTimeout is how long a daemon may take to close its images.
const closeTimeout = 30 * time.Second

func runUmount(c *cli.Context) error {
	if !c.Args().Present() {
		return usageError{"umount takes MOUNTPOINT…; vdfs list shows them"}
	}
	var errs []error
	for _, path := range c.Args().Slice() {
		errs = append(errs, umount(path))
	}
	return errors.Join(errs...)
}

func umount(path string) error {
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
	daemon := daemonOf(e)
	if daemon >= 0 {
		defer unix.Close(daemon)
	}
	if err := fs.Unmount(path); err != nil {
		return err
	}
	if daemon < 0 {
		return nil
	}
	return awaitEnd(daemon, path, e.Device)
}

// daemonOf returns a pidfd of the process that serves the mount, opened while
// the mount still vouches for its number; -1 when it cannot be found.
func daemonOf(e *fs.Entry) int {
	p := probe(e.Mountpoint)
	if p.pid <= 0 && p.state != stateStale {
		p.pid = fs.ServedBy(e.Device)
	}
	if p.pid <= 0 {
		return -1
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return -1
	}
	return fd
}

// awaitEnd waits for the daemon, which ends when its images are closed.
func awaitEnd(pidfd int, path, device string) error {
	if err := waitReadable(pidfd, closeTimeout); err != nil {
		return fmt.Errorf("%s is unmounted, but its daemon has not ended: %w%s", path, err, elsewhere(device))
	}
	return nil
}

func waitReadable(fd int, timeout time.Duration) error {
	end := time.Now().Add(timeout)
	for {
		left := time.Until(end)
		if left <= 0 {
			return vdcore.ErrInUse
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("poll: %w", err)
		case n > 0:
			return nil
		}
	}
}

// elsewhere names another mount of the same file system, which keeps it alive.
func elsewhere(device string) string {
	table, _ := fs.MountTable()
	for _, e := range table {
		if e.Device == device {
			return fmt.Sprintf("; it is also mounted on %s", e.Mountpoint)
		}
	}
	return "; another mount namespace may hold it"
}
