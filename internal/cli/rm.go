package cli

import (
	"errors"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore/imgops"
)

func rmCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "remove images, all files of each",
		ArgsUsage: "IMAGE…",
		Description: "Only files named after the image are removed with it; others it consists of are listed. An\n" +
			"image that is in use, that others were made from, or that a VirtualBox machine has, stays.",
		Flags:  append(imageFlags(), breakChildrenFlag()),
		Action: runRemove,
	}
}

func runRemove(c *cli.Context) error {
	if c.NArg() == 0 {
		return usageError{"rm takes IMAGE…; see vdfs rm --help"}
	}
	o, err := openOptions(c)
	if err != nil {
		return err
	}
	if err := refuseMachine(c, o, c.Args().Slice()...); err != nil {
		return err
	}
	o.BreakChildren = c.Bool("break-children")
	var errs []error
	for _, image := range c.Args().Slice() {
		left, warnings, err := imgops.Remove(image, o)
		warnAll(warnings)
		for _, path := range left {
			warnOf("%s is part of %s, but not named after it, and was not removed", path, image)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
