package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mounted is a disk shown as a file by one of the contenders.
type mounted struct {
	disk  string
	at    string // what the process that serves it was told; none for the raw file
	close func() error
}

// patience is how long a peer may take to mount or to go away.
const patience = 10 * time.Second

func (b *bench) mountVDFS(img string, options ...string) (*mounted, error) {
	mnt, err := os.MkdirTemp(b.dir, "mnt-")
	if err != nil {
		return nil, err
	}
	if err := shell(b.vdfs, append(append([]string{"mount"}, options...), img, mnt)...); err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(img), filepath.Ext(img))
	return &mounted{filepath.Join(mnt, name, "disk.raw"), mnt, func() error { return shell(b.vdfs, "umount", mnt) }}, nil
}

// mountOnce is how often a second an image can be mounted.
func (b *bench) mountOnce(img string) func() (float64, error) {
	return func() (float64, error) {
		began := time.Now()
		m, err := b.mountVDFS(img)
		took := time.Since(began)
		if err != nil {
			return 0, err
		}
		return 1 / took.Seconds(), m.close()
	}
}

// daemon runs a command that goes to the background when its mount answers. Its
// output goes to a file, not to a pipe, which the daemon would keep open.
func (b *bench) daemon(cmd *exec.Cmd) error {
	log, err := os.CreateTemp(b.dir, "log-")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(text))
	}
	return nil
}

// served waits for a mount at a path a peer was given and returns the file of that
// name in it, or the mount itself, if that is a file.
func (b *bench) served(at, name string) (*mounted, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		where, err := mountPoint(at)
		if err != nil {
			return nil, err
		}
		if where != "" {
			return &mounted{filepath.Join(where, name), at, func() error { return unmount(where, serverOf(at)) }}, nil
		}
	}
	return nil, fmt.Errorf("no mount at %s", at)
}

// mountPoint is where a mount is that was made at a path, as a process in a chroot
// may have named it; empty if there is none.
func mountPoint(at string) (string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); strings.HasSuffix(fields[4], at) {
			return fields[4], nil
		}
	}
	return "", nil
}

// unmount ends a mount and waits until its process has gone. Some linger: they are
// left alone.
func unmount(where string, pid int) error {
	deadline := time.Now().Add(patience)
	err := unix.Unmount(where, 0)
	for ; errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); err = unix.Unmount(where, 0) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("umount %s: %w", where, err)
	}
	awaitEnd(pid, time.Second)
	return nil
}

// endQSD asks the daemon that wrote a file with its number to end, and waits.
func endQSD(pidFile string) error {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		return err
	}
	if !awaitEnd(pid, patience) {
		return fmt.Errorf("qemu-storage-daemon %d does not end", pid)
	}
	return nil
}

// awaitEnd waits for a process that is not a child: there is nothing to wait on.
func awaitEnd(pid int, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if pid == 0 || unix.Kill(pid, 0) != nil {
			return true
		}
	}
	return false
}

// serverOf is the process that serves the mount at a path: the one that was given
// the path and has /dev/fuse open. Not all of the peers tell their number.
func serverOf(at string) int {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte(at)) {
			continue
		}
		fds, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "fd", "*"))
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil && strings.HasSuffix(to, "/dev/fuse") {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
				return pid
			}
		}
	}
	return 0
}

// memoryOf is what a process and its children have in memory, in MiB.
func memoryOf(pid int) (float64, error) {
	kib, err := strconv.ParseFloat(strings.TrimSuffix(lineOf(fmt.Sprintf("/proc/%d/status", pid), "VmRSS"), " kB"), 64)
	if err != nil {
		return 0, err
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	total := kib / 1024
	for _, c := range strings.Fields(string(children)) {
		child, err := strconv.Atoi(c)
		if err != nil {
			return 0, err
		}
		more, err := memoryOf(child)
		if err != nil {
			return 0, err
		}
		total += more
	}
	return total, nil
}
