package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore/imgops"
)

func resizeCommand() *cli.Command {
	return &cli.Command{
		Name: "resize", Usage: "make the disk larger or smaller",
		ArgsUsage: "--size SIZE IMAGE",
		Description: "What a larger disk has more reads as zeros. A smaller one is refused when that would cut\n" +
			"off data, and the message says where they lie; zeros, and what only a parent holds, may go.\n" +
			"Partitions and file systems stay as they are: shrink them before, grow them afterwards.\n\n" +
			"IMAGE alone is changed, not its parents. When it is interrupted, by Ctrl-C or a power cut,\n" +
			"the disk has the old size or the new one, and the same command goes on.",
		Flags: append(parentFlags(), diskFlag(), breakChildrenFlag(),
			&cli.StringFlag{Name: "size", Usage: "of the disk from now on: `BYTES`, or with K, M, G, T, P (powers of 1024)"}),
		Action: runResize,
	}
}

func runResize(c *cli.Context) error {
	size, err := parseSize(c, "size")
	if err == nil && size == 0 {
		err = usageError{"resize needs --size, as in --size 20G"}
	}
	if err != nil {
		return err
	}
	chain, err := openForChange(c)
	if err != nil {
		return err
	}
	if n := len(chain.Layers()); n > 1 && chain.Layers()[n-2].Info().Capacity < size {
		warnOf("%s is smaller than its child will be: VirtualBox 7.2 fails to read that behind the parent's end, where vdfs and QEMU show zeros", chain.Layers()[n-2].Path)
	}
	ctx, stop := untilSignal(c)
	defer stop()
	if err := imgops.Resize(ctx, chain, size, progress(c, "resizing")); err != nil {
		return stopped(err)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: %d bytes\n", clean(chain.Top().Layer().Path), size)
	return err
}
