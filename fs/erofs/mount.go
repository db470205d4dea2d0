package erofs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Supported reports why Mount cannot work here, as far as that can be told without
// an image: EPERM without CAP_SYS_ADMIN, ENODEV without EROFS in the kernel.
func Supported() error {
	fsfd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen erofs", err)
	}
	return unix.Close(fsfd)
}

// Mount mounts an image, whose devices are given in the order of the plan, without
// attaching it anywhere, and opens the file in it. Both are gone when the file is
// closed. It takes CAP_SYS_ADMIN and Linux 6.12; ENOTBLK means that this kernel, or the
// file system of one of the files, cannot.
func Mount(image *os.File, devices []*os.File) (*os.File, error) {
	fsfd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fsfd)
	if err := configure(fsfd, image, devices); err != nil {
		return nil, errors.Join(err, kernelSays(fsfd))
	}
	mnt, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC,
		unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOATIME|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	defer unix.Close(mnt)
	fd, err := unix.Openat(mnt, DiskName, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	return os.NewFile(uintptr(fd), "erofs:"+DiskName), nil
}

// configure names the files by descriptor: no path could lead elsewhere meanwhile.
func configure(fsfd int, image *os.File, devices []*os.File) error {
	name := func(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
	if err := unix.FsconfigSetString(fsfd, "source", name(image)); err != nil {
		return os.NewSyscallError("fsconfig source", err)
	}
	for _, d := range devices {
		if err := unix.FsconfigSetString(fsfd, "device", name(d)); err != nil {
			return os.NewSyscallError("fsconfig device", err)
		}
	}
	return os.NewSyscallError("fsconfig create", unix.FsconfigCreate(fsfd))
}

// kernelSays is what the kernel left for whoever set a mount up; nil without.
func kernelSays(fsfd int) error {
	var b [1024]byte
	n, err := unix.Read(fsfd, b[:])
	if err != nil || n <= 0 {
		return nil
	}
	return errors.New(string(b[:n]))
}

// Clone returns the file or folder of a descriptor anew, for use as a device, or to
// open those in it: as a mount of its own, read-only, in which reading moves no access
// time. What was opened in it stays so when it is closed. It takes CAP_SYS_ADMIN.
func Clone(fd int) (*os.File, error) {
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOATIME, Attr_clr: unix.MOUNT_ATTR__ATIME}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(tree)
		return nil, os.NewSyscallError("mount_setattr", err)
	}
	return os.NewFile(uintptr(tree), fmt.Sprintf("clone of descriptor %d", fd)), nil
}
