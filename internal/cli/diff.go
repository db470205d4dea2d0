package cli

import (
	"bufio"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore/imgops"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "list what changed between two states of a chain",
		ArgsUsage: "IMAGE",
		Description: "Lists the ranges that the layers above --from, up to --to, hold (0 is the base, as in\n" +
			"snapshots/): without options, what IMAGE holds over its parent. Nothing is read but the maps, so a\n" +
			"range may still be the same; --content reads both states and leaves such out. --ddrescue prints a\n" +
			"map file, in which + is what changed: ddrescue -m copies only that.",
		Flags: append(openFlags(),
			&cli.IntFlag{Name: "from", Usage: "the older state, layer `N`; else the one below --to"},
			&cli.IntFlag{Name: "to", Usage: "the newer state, layer `M`; else the topmost"},
			&cli.BoolFlag{Name: "content", Usage: "leave out what reads the same"},
			&cli.BoolFlag{Name: "json", Usage: "as JSON"},
			&cli.BoolFlag{Name: "ddrescue", Usage: "as a map file of ddrescue"}),
		Action: runDiff,
	}
}

func runDiff(c *cli.Context) error {
	if c.Bool("json") && c.Bool("ddrescue") {
		return usageError{"--json or --ddrescue"}
	}
	chain, err := openOnly(c)
	if err != nil {
		return err
	}
	defer chain.Close()
	from, to, err := states(c, len(chain.Layers()))
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(c)
	defer stop()
	ranges, err := imgops.Diff(ctx, chain, from, to, c.Bool("content"), progress(c, "comparing"))
	if err != nil {
		return explainLost(err)
	}
	w := bufio.NewWriter(c.App.Writer)
	capacity := chain.Disk(to).Capacity()
	switch {
	case c.Bool("json"):
		if ranges == nil {
			ranges = []imgops.Range{}
		}
		err = printJSON(w, map[string]any{
			"schema": 1, "from": from, "to": to, "capacity": capacity, "capacity_from": chain.Disk(from).Capacity(), "ranges": ranges,
		})
	case c.Bool("ddrescue"):
		err = printChanged(w, ranges, capacity)
	default:
		err = printRanges(w, ranges)
	}
	if err != nil {
		return err
	}
	return w.Flush()
}

// states are the layers --from and --to name, of so many.
func states(c *cli.Context, layers int) (from, to int, err error) {
	to = layers - 1
	if c.IsSet("to") {
		to = c.Int("to")
	}
	from = to - 1
	if c.IsSet("from") {
		from = c.Int("from")
	}
	switch {
	case layers == 1:
		err = usageError{"the image has no parent: there is nothing to compare it with"}
	case from < 0 || from >= to || to >= layers:
		err = usageError{fmt.Sprintf("--from %d --to %d: the layers are 0 to %d, and the older one is lower", from, to, layers-1)}
	}
	return from, to, err
}

func printRanges(w io.Writer, ranges []imgops.Range) error {
	for _, r := range ranges {
		if _, err := fmt.Fprintf(w, "%14d %14d\n", r.Start, r.Length); err != nil {
			return err
		}
	}
	return nil
}
