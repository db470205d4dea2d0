package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func compareCommand() *cli.Command {
	return &cli.Command{
		Name: "compare", Usage: "tell whether two images show the same disk",
		ArgsUsage: "A B",
		Description: "Compares what the topmost images show, whatever their formats. Exit code 0: the same; 9: they\n" +
			"differ, and the first byte that does is printed. A disk may be longer than the other, if the rest\n" +
			"reads as zeros; with --strict it may not. Options for opening count for both.",
		Flags: append(openFlags(),
			&cli.BoolFlag{Name: "all", Usage: "list all ranges that differ, in whole sectors"},
			&cli.BoolFlag{Name: "strict", Usage: "disks of different sizes differ"},
			&cli.BoolFlag{Name: "json", Usage: "as JSON, with all ranges that differ"}),
		Action: runCompare,
	}
}

// errDiffer: two disks are not the same.
var errDiffer = errors.New("the disks differ")

func runCompare(c *cli.Context) error {
	args, err := arguments(c, "A", "B")
	if err != nil {
		return err
	}
	a, err := openChain(c, args[0])
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := openChain(c, args[1])
	if err != nil {
		return err
	}
	defer b.Close()
	ctx, stop := untilSignal(c)
	defer stop()
	d, err := imgops.Compare(ctx, a.Top(), b.Top(), c.Bool("all") || c.Bool("json"), progress(c, "comparing"))
	if err != nil {
		return explainLost(err)
	}
	return reportCompared(c, a.Top(), b.Top(), &d)
}

// reportCompared prints what was found, and fails when the disks differ.
func reportCompared(c *cli.Context, a, b *vdcore.Disk, d *imgops.Difference) error {
	sizes := d.Longer > 0 && c.Bool("strict")
	var err error
	if c.Bool("json") {
		ranges := d.Ranges
		if ranges == nil {
			ranges = []imgops.Range{}
		}
		out := map[string]any{
			"schema": 1, "equal": d.Equal() && !sizes, "capacities": []int64{a.Capacity(), b.Capacity()}, "ranges": ranges,
		}
		if !d.Equal() {
			out["first"] = d.First
		}
		err = printJSON(c.App.Writer, out)
	} else {
		err = printCompared(c, a, b, d)
	}
	switch {
	case err != nil:
		return err
	case !d.Equal():
		return fmt.Errorf("%w, first at byte %d", errDiffer, d.First)
	case sizes:
		return fmt.Errorf("%w: one has %d bytes, the other %d", errDiffer, a.Capacity(), b.Capacity())
	}
	return nil
}

func printCompared(c *cli.Context, a, b *vdcore.Disk, d *imgops.Difference) error {
	w := c.App.Writer
	if c.Bool("all") {
		if err := printRanges(w, d.Ranges); err != nil {
			return err
		}
	}
	if !d.Equal() {
		return nil
	}
	text := "The disks are the same."
	if d.Longer > 0 {
		text = fmt.Sprintf("The disks are the same, but one has %d bytes, the other %d: the rest is zeros.", a.Capacity(), b.Capacity())
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
