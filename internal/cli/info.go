package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
)

func infoCommand() *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "show what an image and its parents are",
		ArgsUsage: "IMAGE",
		Flags: append(openFlags(),
			&cli.BoolFlag{Name: "json", Usage: "as JSON, sizes in bytes"},
			&cli.BoolFlag{Name: "header", Usage: "the header of each layer as it is on disk (JSON)"}),
		Action: runInfo,
	}
}

func runInfo(c *cli.Context) error {
	args, err := arguments(c, "IMAGE")
	if err != nil {
		return err
	}
	if wholeMachine(c, args[0]) && !c.Bool("header") {
		return runMachineInfo(c, args[0])
	}
	chain, err := openChain(c, args[0])
	if err != nil {
		return err
	}
	defer chain.Close()
	switch {
	case c.Bool("header"):
		return printHeaders(c.App.Writer, chain)
	case c.Bool("json"):
		return printJSON(c.App.Writer, struct {
			Schema int `json:"schema"`
			vdcore.Description
		}{1, chain.Describe()})
	}
	return printInfo(c.App.Writer, chain.Describe())
}

// printHeaders prints what each backend parsed, topmost layer first.
func printHeaders(w io.Writer, chain *vdcore.Chain) error {
	type layer struct {
		Path   string `json:"path"`
		Format string `json:"format"`
		Header any    `json:"header"`
	}
	var out []layer
	layers := chain.Layers()
	for i := len(layers) - 1; i >= 0; i-- {
		l := layer{Path: layers[i].Path, Format: layers[i].Info().Format}
		if h, ok := layers[i].Image.(vdcore.HeaderDumper); ok {
			l.Header = h.Header()
		}
		out = append(out, l)
	}
	return printJSON(w, map[string]any{"schema": 1, "layers": out})
}

// printInfo prints the disk, then its layers from the topmost down.
func printInfo(w io.Writer, d vdcore.Description) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	row("image", "%s", d.Image)
	row("capacity", "%s (%d bytes)", size(d.Capacity), d.Capacity)
	if d.Incomplete {
		row("incomplete", "some ranges cannot be read; vdfs map lists them")
	}
	for i := len(d.Layers) - 1; i >= 0; i-- {
		fmt.Fprintln(tw)
		printLayer(row, d.Layers[i])
	}
	return tw.Flush()
}

func printLayer(row func(name, format string, args ...any), l vdcore.LayerDescription) {
	optional := func(name, value string) {
		if value != "" {
			row(name, "%s", value)
		}
	}
	row(fmt.Sprintf("layer %d", l.Index), "%s", l.File)
	row("  format", "%s", strings.TrimSpace(strings.Join([]string{l.Format, l.Version, l.Variant}, " ")))
	row("  allocated", "%s of %s (%s)", size(l.Allocated), size(l.Capacity), share(l.Allocated, l.Capacity))
	row("  file size", "%s", size(l.FileSize))
	if l.BlockSize > 0 {
		row("  block size", "%s", size(l.BlockSize))
	}
	row("  flags", "%s (0x%x)", cmp.Or(strings.Join(l.ImageFlags.Names, ", "), "none"), l.ImageFlags.Value)
	optional("  modified", l.Modified)
	for _, s := range l.Snapshots {
		row("  snapshot", "%s", strings.TrimSpace(s.Name+"  "+localTime(s.Taken)))
		optional("", s.Description)
	}
	optional("  comment", l.Comment)
	optional("  UUID", l.UUIDs.Image)
	optional("  modification", l.UUIDs.Modification)
	optional("  parent", l.UUIDs.Parent)
	if l.UUIDs.CID != "" {
		row("  CID", "%s, parent %s %s", l.UUIDs.CID, l.UUIDs.ParentCID, l.ParentHint)
	}
	if g := l.Geometry.PCHS; g.Cylinders > 0 {
		row("  geometry", "%d/%d/%d", g.Cylinders, g.Heads, g.Sectors)
	}
	if g := l.Geometry.LCHS; g.Cylinders > 0 {
		row("  LCHS", "%d/%d/%d", g.Cylinders, g.Heads, g.Sectors)
	}
	row("  link", "%s", l.Link.Verdict)
	for _, w := range l.Warnings {
		row("  warning", "%s", w)
	}
	for _, n := range l.Notes {
		row("  note", "%s", n)
	}
	for i, x := range l.Damage {
		if i == 5 {
			row("  damage", "and %d more ranges", int64(len(l.Damage)-i)+l.DamageMore)
			break
		}
		row("  damage", "%d bytes at %d: %s", x.Length, x.Start, x.Reason)
	}
}

func share(part, whole int64) string {
	if whole == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}
