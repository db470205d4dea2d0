package fs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// connect mounts and returns the connection to the kernel: root by itself,
// everybody else through fusermount3. go-fuse could do both, but keeps
// fusermount3's message to itself and leaves the descriptor to child processes.
func connect(o *Options) (fd int, err error) {
	if os.Geteuid() != 0 {
		return helperMount(o)
	}
	fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, explainDevice(err)
	}
	if err := directMount(o, fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// directMount is mount(2). The kernel tells a file mountpoint by rootmode.
func directMount(o *Options, fd int) error {
	var st unix.Stat_t
	if err := unix.Stat(o.Mountpoint, &st); err != nil {
		return fmt.Errorf("%s: %w", o.Mountpoint, err)
	}
	data := append(o.kernelOptions(),
		fmt.Sprintf("fd=%d", fd),
		fmt.Sprintf("rootmode=%o", st.Mode&unix.S_IFMT),
		fmt.Sprintf("user_id=%d", os.Geteuid()),
		fmt.Sprintf("group_id=%d", os.Getegid()))
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if !o.writable() {
		flags |= unix.MS_RDONLY
	}
	if o.Sync {
		flags |= unix.MS_SYNCHRONOUS
	}
	err := unix.Mount(o.fsName(), o.Mountpoint, FSType, flags, strings.Join(data, ","))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("mount on %s: %w; root needs CAP_SYS_ADMIN for this (in a container: --cap-add SYS_ADMIN)", o.Mountpoint, err)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("mount on %s: %w: this kernel has no FUSE; try modprobe fuse", o.Mountpoint, err)
	}
	return fmt.Errorf("mount on %s: %w", o.Mountpoint, err)
}

// kernelOptions are those both ways share. default_permissions has the kernel
// judge by the modes; nobody asks the daemon.
func (o *Options) kernelOptions() []string {
	list := []string{"default_permissions", fmt.Sprintf("max_read=%d", o.transfer())}
	if o.AllowOther || o.AllowRoot {
		list = append(list, "allow_other")
	}
	return list
}

func explainDevice(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("/dev/fuse: %w: load the kernel's FUSE module (modprobe fuse); in a container, pass --device /dev/fuse", err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("/dev/fuse: %w: in a container, pass --device /dev/fuse", err)
	}
	return fmt.Errorf("/dev/fuse: %w", err)
}
