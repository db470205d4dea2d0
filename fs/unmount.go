package fs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BusyError says that a mount is in use, and by whom as far as could be seen.
type BusyError struct {
	Mountpoint string
	Holders    []Holder
}

func (e *BusyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is in use", e.Mountpoint)
	if len(e.Holders) == 0 {
		b.WriteString("; by whom could not be seen (root sees more)")
	}
	for _, h := range e.Holders {
		b.WriteString("\n  by " + h.String())
	}
	return b.String()
}

// Unwrap makes a BusyError an EBUSY.
func (e *BusyError) Unwrap() error { return unix.EBUSY }

// settle is how long a mount may stay busy before that is an error: the kernel lets
// go of a closed file, or a detached loop device, a moment after the program that
// held it has ended, and a process that is just being started holds what the one that
// starts it has open.
const settle = 500 * time.Millisecond

// Unmount ends the mount at an absolute path free of links: root by itself,
// everybody else through fusermount3. Nothing is forced; a mount in use stays.
func Unmount(mountpoint string) error {
	for end := time.Now().Add(settle); ; time.Sleep(settle / 10) {
		err := unmount(mountpoint)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if time.Now().After(end) {
			return &BusyError{mountpoint, Holders(mountpoint)}
		}
	}
}

func unmount(mountpoint string) error {
	if os.Geteuid() != 0 {
		return helperUnmount(mountpoint)
	}
	if err := unix.Unmount(mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", mountpoint, err)
	}
	return nil
}
