package cli

import (
	"github.com/urfave/cli/v2"

	"vdfs/vdcore/imgops"
)

func copyCommand() *cli.Command {
	return &cli.Command{
		Name: "copy", Usage: "copy the disk to a sparse raw file, or to stdout",
		ArgsUsage: "IMAGE FILE|-",
		Description: "Writes the disk as the topmost image sees it. FILE must not exist; what reads as\n" +
			"zeros becomes a hole. With - the whole disk goes to stdout.",
		Flags:  append(openFlags(), noSyncFlag()),
		Action: runCopy,
	}
}

// runCopy is convert to raw, whatever FILE is called.
func runCopy(c *cli.Context) error {
	args, err := arguments(c, "IMAGE", "FILE")
	if err != nil {
		return err
	}
	return explainNew(convert(c, args[0], args[1], imgops.Conversion{Format: "raw", NoSync: c.Bool("no-sync"), Progress: progress(c, "copying")}))
}
