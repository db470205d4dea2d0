package cli

import (
	"github.com/urfave/cli/v2"

	"vdfs/vdcore/imgops"
)

func renameCommand() *cli.Command {
	return &cli.Command{
		Name: "rename", Usage: "give an image, all its files, another name",
		ArgsUsage: "IMAGE NEW",
		Description: "NEW may lie in another folder of the same file system, and must not exist. The pieces of a\n" +
			"VMDK get the new name too. An interrupted renaming leaves an image that opens by the old\n" +
			"name or the new one, and the same command goes on. An image that is in use, that others were\n" +
			"made from, or that a VirtualBox machine has, keeps its name.",
		Flags:  append(imageFlags(), breakChildrenFlag()),
		Action: runRename,
	}
}

func runRename(c *cli.Context) error {
	args, err := arguments(c, "IMAGE", "NEW")
	if err != nil {
		return err
	}
	o, err := openOptions(c)
	if err != nil {
		return err
	}
	if err := refuseMachine(c, o, args[0]); err != nil {
		return err
	}
	o.BreakChildren = c.Bool("break-children")
	warnings, err := imgops.Rename(args[0], args[1], o)
	warnAll(warnings)
	return explainNew(err)
}
