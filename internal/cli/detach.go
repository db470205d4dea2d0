package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"vdfs/fs"
	"vdfs/vdcore"
)

func detachCommand() *cli.Command {
	return &cli.Command{
		Name: "detach", Usage: "undo attach: take the block device down, and unmount",
		ArgsUsage: "/dev/loopN|IMAGE",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action:    runDetach,
	}
}

func runDetach(c *cli.Context) error {
	args, err := arguments(c, "/dev/loopN|IMAGE")
	if err != nil {
		return err
	}
	unlock, err := lockAttachments()
	if err != nil {
		return err
	}
	defer unlock()
	a, err := findAttachment(args[0])
	if err != nil {
		return err
	}
	if err := a.takeDown(); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, map[string]any{"schema": 1, "device": a.Device, "mountpoint": a.Mountpoint})
	}
	return nil
}

// findAttachment finds what a device or an image is attached by. What was cut off half
// way is found by the image.
func findAttachment(word string) (*attachment, error) {
	if strings.HasPrefix(word, "/dev/") {
		for _, l := range fs.LoopsBelow(attachRoot) {
			if l.Device == word {
				rel := strings.TrimPrefix(l.File, attachRoot+"/")
				name, _, _ := strings.Cut(rel, "/")
				return &attachment{Device: word, Mountpoint: filepath.Join(attachRoot, name)}, nil
			}
		}
		return nil, usageError{fmt.Sprintf("%s was not set up by vdfs attach", word)}
	}
	a, err := newAttachment(word)
	if err != nil {
		return nil, err
	}
	if !exists(a.Mountpoint) {
		if e, err := fs.MountAt(a.Mountpoint); err != nil || e == nil {
			return nil, errors.Join(err, usageError{fmt.Sprintf("%s is not attached", word)})
		}
	}
	return a, nil
}

// takeDown takes devices down first, unless something on them is in use, and then the
// mount below.
func (a *attachment) takeDown() error {
	table, err := fs.MountTable()
	if err != nil {
		return err
	}
	loops := fs.LoopsBelow(a.Mountpoint)
	for _, l := range loops {
		if users := l.Users(table); len(users) > 0 {
			return fmt.Errorf("%w: %s is used by %s", vdcore.ErrInUse, l.Device, strings.Join(users, ", "))
		}
	}
	for _, l := range loops {
		a.Device = l.Device
		if err := clearLoop(l.Device); err != nil {
			return err
		}
	}
	if e, err := fs.MountAt(a.Mountpoint); err != nil || e != nil {
		if err = errors.Join(err, umount(a.Mountpoint, false)); err != nil {
			return err
		}
	}
	return os.Remove(a.Mountpoint)
}
