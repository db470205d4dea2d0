package cli

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"vdfs/fs"
	"vdfs/vdcore"
	"vdfs/vdcore/contents"
)

func attachCommand() *cli.Command {
	return &cli.Command{
		Name: "attach", Usage: "make an image a read-only block device, and print its name",
		ArgsUsage: "IMAGE",
		Description: "Mounts the image below /run/vdfs and sets a read-only loop device up over its disk, with\n" +
			"the sector size of its partition table and its partitions. Nothing on it is activated or\n" +
			"mounted. vdfs detach undoes both.",
		Flags: append(openFlags(),
			&cli.BoolFlag{Name: "json", Usage: "as JSON"}),
		Action: runAttach,
	}
}

// attachRoot is where attached images are mounted.
const attachRoot = "/run/vdfs"

// attachment is an image as a block device. The keys are part of the interface.
type attachment struct {
	Schema     int          `json:"schema"`
	Image      string       `json:"image"`
	Device     string       `json:"device"`
	Mountpoint string       `json:"mountpoint"`
	Disk       string       `json:"disk"` // the file below the device
	SectorSize int64        `json:"sector_size"`
	Partitions []attachPart `json:"partitions"`
}

type attachPart struct {
	Number int    `json:"number"`
	Device string `json:"device,omitempty"` // "" where the kernel reads no such tables
	File   string `json:"file"`             // the same in the mount
}

func runAttach(c *cli.Context) error {
	args, err := arguments(c, "IMAGE")
	if err != nil {
		return err
	}
	if _, err := openOptions(c); err != nil {
		return err
	}
	unlock, err := lockAttachments()
	if err != nil {
		return err
	}
	defer unlock()
	a, err := newAttachment(args[0])
	if err != nil {
		return err
	}
	if err := a.clearUp(); err != nil {
		return err
	}
	if err := a.set(mountFlags(c)); err != nil {
		return errors.Join(err, a.clearUp())
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, a)
	}
	_, err = fmt.Fprintln(c.App.Writer, a.Device)
	return err
}

// lockAttachments keeps other attach and detach commands out until the returned
// function is called, or this process is gone.
func lockAttachments() (unlock func(), err error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: loop devices are root's; without root, mount and use the files of the partitions", errFUSE)
	}
	if err := os.MkdirAll(attachRoot, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(attachRoot)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", attachRoot, err), f.Close())
	}
	return func() { f.Close() }, nil
}

// newAttachment finds the place of an image, attached or not: the same each time, so
// that whatever was left there is found.
func newAttachment(image string) (*attachment, error) {
	path, err := filepath.Abs(image)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(path))
	name := fmt.Sprintf("%.40s-%x", strings.Map(plainRune, filepath.Base(path)), hash[:4])
	return &attachment{Schema: 1, Image: path, Mountpoint: filepath.Join(attachRoot, name), Partitions: []attachPart{}}, nil
}

func plainRune(r rune) rune {
	if r < 0x80 && (r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
		return r
	}
	return '-'
}

// clearUp takes away what an attach or detach that was killed has left. An image that
// is attached is left so.
func (a *attachment) clearUp() error {
	e, err := fs.MountAt(a.Mountpoint)
	if err != nil {
		return err
	}
	if e != nil {
		if loops := fs.LoopsBelow(a.Mountpoint); len(loops) > 0 {
			return fmt.Errorf("%w: %s is attached as %s; vdfs detach %s undoes that", vdcore.ErrInUse, a.Image, loops[0].Device, loops[0].Device)
		}
		if err := umount(a.Mountpoint, false); err != nil {
			return err
		}
	}
	if err := os.Remove(a.Mountpoint); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// set mounts the image and sets the device up.
func (a *attachment) set(flags []string) error {
	if err := os.Mkdir(a.Mountpoint, 0o700); err != nil {
		return err
	}
	if err := runMountOf(a.Image, a.Mountpoint, flags); err != nil {
		return err
	}
	c, err := a.findDisk()
	if err != nil {
		return err
	}
	a.SectorSize = cmp.Or(c.SectorSize, 512)
	if a.Device, err = setLoop(a.Disk, a.SectorSize); err != nil {
		return err
	}
	for _, p := range c.Partitions {
		part := attachPart{Number: p.Number, Device: fmt.Sprintf("%sp%d", a.Device, p.Number)}
		if !exists(part.Device) {
			part.Device = ""
		}
		if !p.Extended {
			part.File = filepath.Join(filepath.Dir(a.Disk), fs.PartitionFile(p.Number))
			a.Partitions = append(a.Partitions, part)
		}
	}
	return nil
}

// runMountOf is the mount command as a process of its own: its daemon must be another
// process than the one that opens the disk for the device.
func runMountOf(image, mountpoint string, flags []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append(append([]string{"-q", "mount"}, flags...), "--", image, mountpoint)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us: the daemon would stay half mounted
	if err := cmd.Run(); err != nil {
		return daemonFailed(err)
	}
	return nil
}

// mountFlags are the open flags as they were given.
func mountFlags(c *cli.Context) (list []string) {
	for _, f := range openFlags() {
		name := f.Names()[0]
		switch f.(type) {
		case *cli.StringSliceFlag:
			for _, v := range c.StringSlice(name) {
				list = append(list, "--"+name+"="+v)
			}
		case *cli.BoolFlag:
			if c.Bool(name) {
				list = append(list, "--"+name)
			}
		default:
			if c.IsSet(name) {
				list = append(list, "--"+name+"="+c.String(name))
			}
		}
	}
	return list
}

// findDisk finds the disk in the mount, and what is said of it there.
func (a *attachment) findDisk() (contents.Contents, error) {
	var info struct {
		Disk     string            `json:"disk"`
		Contents contents.Contents `json:"contents"`
	}
	folders, err := os.ReadDir(a.Mountpoint)
	if err != nil {
		return info.Contents, err
	}
	if len(folders) != 1 {
		return info.Contents, usageError{fmt.Sprintf("%s has %d disks: mount it, and set a loop device up for the one you need", a.Image, len(folders))}
	}
	folder := filepath.Join(a.Mountpoint, folders[0].Name())
	text, err := os.ReadFile(filepath.Join(folder, "info.json"))
	if err == nil {
		err = json.Unmarshal(text, &info)
	}
	a.Disk = filepath.Join(folder, info.Disk)
	return info.Contents, err
}
