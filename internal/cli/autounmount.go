package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"vdfs/fs"
)

// A mount whose daemon was killed stays in the table and answers with errors. With
// --auto-unmount a second process takes it away. It is this program again and not
// fusermount3, whose auto_unmount is for mounts that it has made itself: root's are
// not. It waits for the daemon's end through a descriptor of that process (pidfd).
//
// It takes away the very mount it was started for, and only if nobody serves it: the
// device number is compared, and the mount is asked.

// watcherFD is where the watcher has its daemon's pidfd.
const watcherFD = 3

func watchCommand() *cli.Command {
	return &cli.Command{Name: "auto-unmount", ArgsUsage: "MOUNTPOINT DEVICE", Hidden: true, Action: runWatch}
}

// startWatcher starts the one that waits for this process's end.
func startWatcher(mountpoint string) error {
	e, err := fs.MountAt(mountpoint)
	if err != nil || e == nil {
		return errors.Join(fmt.Errorf("--auto-unmount: %s is not in the table of mounts", mountpoint), err)
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("--auto-unmount takes Linux 5.3: pidfd_open: %w", err)
	}
	self := os.NewFile(uintptr(pidfd), "pidfd")
	defer self.Close()
	bin, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(bin, "auto-unmount", "--", mountpoint, e.Device)
	cmd.Args[0] = "vdfs"
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{self}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("--auto-unmount: %w", err)
	}
	return cmd.Process.Release()
}

// runWatch is the watcher.
func runWatch(c *cli.Context) error {
	args, err := arguments(c, "MOUNTPOINT", "DEVICE")
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP) // they end the daemon, and that this one
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: watcherFD, Events: unix.POLLIN}}, -1)
		if err == nil {
			return removeStale(args[0], args[1])
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
	}
}

// removeStale takes a mount away if it is that of a daemon that is gone.
func removeStale(mountpoint, device string) error {
	e, err := fs.MountAt(mountpoint)
	if err != nil || e == nil || e.Device != device || e.Type != fs.FSType {
		return err
	}
	if probe(mountpoint).state != stateStale {
		return nil
	}
	return fs.Detach(mountpoint)
}
