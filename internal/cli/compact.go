package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func compactCommand() *cli.Command {
	return &cli.Command{
		Name: "compact", Usage: "make an image smaller without changing what it shows",
		ArgsUsage: "IMAGE",
		Description: "Gives up blocks that are zeros and blocks that hold what the parents show anyway, moves\n" +
			"the last blocks of the file into the gaps and cuts it off. Of plain disks and flat extents,\n" +
			"which keep their size, zeros become holes; a fixed VDI keeps its blocks. When it is interrupted,\n" +
			"by Ctrl-C or a power cut, the image is sound, and the same command goes on.\n\n" +
			"What a file system inside has deleted is not zeros. To have it so, mount the image with\n" +
			"vdfs mount --rw, put a loop device on disk.raw, mount that, run fstrim on it, and unmount all:\n" +
			"then compact. That works for every file system fstrim knows.\n\n" +
			"Content and identity stay, so images made from this one stay right. It is refused all the same\n" +
			"while there are any, as a machine may be running on them, unless --break-children says that\n" +
			"none is.",
		Flags:  append(parentFlags(), diskFlag(), breakChildrenFlag()),
		Action: runCompact,
	}
}

func runCompact(c *cli.Context) error {
	chain, err := openForChange(c)
	if err != nil {
		return err
	}
	path := chain.Top().Layer().Path
	ctx, stop := untilSignal(c)
	defer stop()
	done, err := imgops.Compact(ctx, chain, progress(c, "compacting"))
	if err != nil {
		return stopped(err)
	}
	if done.Kept > 0 {
		warnOf("%s is fixed, and keeps its blocks: copied to a dynamic image it would lose those it does not need", path)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: %s, was %s; on the host's disk %s, was %s\n", clean(path),
		size(done.After.Size), size(done.Before.Size), size(done.After.Allocated), size(done.Before.Allocated))
	return err
}

// openForChange opens the image that is the command's only argument for writing.
func openForChange(c *cli.Context) (*vdcore.Chain, error) {
	args, err := arguments(c, "IMAGE")
	if err != nil {
		return nil, err
	}
	o, err := openOptions(c)
	if err != nil {
		return nil, err
	}
	o.Write, o.BreakChildren = true, c.Bool("break-children")
	chain, err := openNamed(c, args[0], o)
	if err != nil {
		return nil, err
	}
	warn(chain)
	return chain, nil
}

// stopped gives an operation that was interrupted its exit code and a word for what
// to do.
func stopped(err error) error {
	if errors.Is(err, context.Canceled) {
		return codedError{fmt.Errorf("stopped before the end; the image is sound, and the same command goes on: %w", err), exitIO}
	}
	return err
}
