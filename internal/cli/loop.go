package cli

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// loopTries is how often another free device is asked for, when somebody else was
// faster to take the last one.
const loopTries = 64

// setLoop sets a read-only loop device up over a file, in one step, and returns its
// name. Sectors have the given size in bytes; partitions are looked for.
func setLoop(file string, sector int64) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("%w (no loop devices: modprobe loop; in a container, pass the devices)", err)
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(f.Fd()), Size: uint32(sector)}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_PARTSCAN
	copy(config.Info.File_name[:63], file)
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("a free loop device: %w", err)
		}
		device := fmt.Sprintf("/dev/loop%d", n)
		if err = configureLoop(device, &config); !errors.Is(err, unix.EBUSY) {
			return device, err
		}
	}
	return "", fmt.Errorf("no loop device stays free: %w", unix.EBUSY)
}

// configureLoop fails with EBUSY when the device is taken. It needs Linux 5.8.
func configureLoop(device string, config *unix.LoopConfig) error {
	d, err := os.OpenFile(device, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.IoctlLoopConfigure(int(d.Fd()), config); err != nil {
		return fmt.Errorf("set %s up: %w", device, err)
	}
	return nil
}

// clearLoop takes a device down. The kernel does that when the last one has closed it.
func clearLoop(device string) error {
	d, err := os.OpenFile(device, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.IoctlSetInt(int(d.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("take %s down: %w", device, err)
	}
	return nil
}
