package selftest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop attaches a loop device to a disk of the mount as if it could be written, and
// tries to write to it.
func (t *trial) loop() {
	const check = "write through a loop device"
	disk := filepath.Join(t.folder(t.images[0]), "disk.raw")
	dev, err := attachLoop(disk)
	if err != nil {
		t.skip(check, err.Error())
		return
	}
	var faults, refused []string
	for _, a := range onDevices {
		switch err := a.do(dev); {
		case err == nil:
			faults = append(faults, a.name+": done")
		default:
			refused = append(refused, a.name+" "+errnoName(err))
		}
	}
	if err := detachLoop(dev); err != nil {
		faults = append(faults, err.Error())
	}
	t.tell(check, "refused: "+strings.Join(refused, ", "), faults...)
}

// onDevices are ways to change a device. A write counts as done when it is on the disk.
var onDevices = []struct {
	name string
	do   func(dev *os.File) error
}{
	{"write", func(dev *os.File) error {
		_, err := dev.WriteAt(make([]byte, 4096), 0)
		return errors.Join(err, dev.Sync())
	}},
	{"write after BLKROSET", func(dev *os.File) error {
		if err := setWritable(dev); err != nil {
			return err
		}
		_, err := dev.WriteAt(make([]byte, 4096), 4096)
		return errors.Join(err, dev.Sync())
	}},
	{"BLKDISCARD", func(dev *os.File) error { return rangeIoctl(dev, unix.BLKDISCARD) }},
	{"BLKZEROOUT", func(dev *os.File) error { return rangeIoctl(dev, unix.BLKZEROOUT) }},
	{"BLKSECDISCARD", func(dev *os.File) error { return rangeIoctl(dev, unix.BLKSECDISCARD) }},
}

func setWritable(dev *os.File) error {
	off := int32(0)
	return ioctl(dev, unix.BLKROSET, unsafe.Pointer(&off))
}

// rangeIoctl asks for something to be done with the first 64 KiB.
func rangeIoctl(dev *os.File, request uintptr) error {
	r := [2]uint64{0, 64 << 10}
	return ioctl(dev, request, unsafe.Pointer(&r))
}

func ioctl(dev *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dev.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// attachLoop attaches a free loop device to a file, read-write if the kernel lets it.
func attachLoop(path string) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for range 10 { // somebody else may take it first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("no free loop device: %w", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		if err = unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_FD, int(f.Fd())); err == nil {
			return dev, nil
		}
		if err = errors.Join(err, dev.Close()); !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("%s: %w", dev.Name(), err)
		}
	}
	return nil, errors.New("no free loop device: others are faster")
}

func detachLoop(dev *os.File) error {
	return errors.Join(unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0), dev.Close())
}
