package cli

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func mergeCommand() *cli.Command {
	return &cli.Command{
		Name: "merge", Usage: "bring an overlay's changes down into its parent, and remove it",
		ArgsUsage: "OVERLAY",
		Description: "Writes everything OVERLAY holds into the image it was made from, makes that durable,\n" +
			"and then removes OVERLAY. When it is interrupted, by Ctrl-C or a power cut, OVERLAY still\n" +
			"shows the whole disk, and the same command goes on. To throw changes away instead, rm OVERLAY:\n" +
			"but not after an interrupted merge, which has written some of them already.",
		Flags:  append(parentFlags(), breakChildrenFlag()),
		Action: runMerge,
	}
}

func runMerge(c *cli.Context) error {
	args, err := arguments(c, "OVERLAY")
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
	o.Write, o.BreakChildren = true, c.Bool("break-children")
	chain, err := vdcore.Open(args[0], o)
	if err != nil {
		return err
	}
	warn(chain)
	ctx, stop := untilSignal(c)
	defer stop()
	left, err := imgops.Merge(ctx, chain, progress(c, "merging"))
	for _, path := range left {
		warnOf("%s is part of %s, but not named after it, and was not removed", path, args[0])
	}
	if errors.Is(err, context.Canceled) {
		err = codedError{err, exitIO}
	}
	return err
}
