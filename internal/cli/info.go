package cli

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"vdfs/fs"
	"vdfs/vdcore"
	"vdfs/vdcore/contents"
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
			diskInfo
		}{1, infoOf(chain)})
	}
	p, d := newPage(c.App.Writer), infoOf(chain)
	if err := printInfo(p, &d, takeBars(chain)); err != nil {
		return err
	}
	return printSteps(p, stepsBefore(args[0], fs.Source{Chain: chain}.Folder(), d.Contents))
}

// diskInfo is what is known of one disk, in the words of `info --json`.
type diskInfo struct {
	vdcore.Description
	Contents contents.Contents `json:"contents"`
}

func infoOf(chain *vdcore.Chain) diskInfo { return diskInfo{chain.Describe(), contentsOf(chain)} }

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

// printInfo prints the disk, an overview of its layers, its partitions, and all layers
// from the topmost down. A section begins with an empty line.
func printInfo(p *page, d *diskInfo, b *bars) error {
	for i, section := range []func() error{
		func() error { return infoDisk(p, &d.Description) },
		func() error { return infoOverview(p, &d.Description, b) },
		func() error { return infoContents(p, &d.Contents) },
		func() error { return infoLayers(p, &d.Description) },
	} {
		if i > 0 {
			fmt.Fprintln(p)
		}
		if err := section(); err != nil {
			return err
		}
	}
	return nil
}

// infoDisk says what is seen of the chain as a whole.
func infoDisk(p *page, d *vdcore.Description) error {
	f := newFields(p)
	f.add("image", bold, "%s", filepath.Base(d.Image))
	f.add("folder", plain, "%s", filepath.Dir(d.Image))
	f.add("capacity", plain, "%s (%d bytes)", size(d.Capacity), d.Capacity)
	if d.Incomplete {
		f.add("incomplete", red, "some ranges cannot be read; vdfs map lists them, vdfs map --png draws them")
	}
	return f.print()
}

// infoOverview is one line a layer: how much of the disk it holds, and where.
func infoOverview(p *page, d *vdcore.Description, b *bars) error {
	rows := [][]cell{{{text: "layer", style: faint, right: true}, {text: "holds", style: faint, right: true}, {}, {text: "where on the disk", style: faint}, {text: "file", style: faint}}}
	for i := len(d.Layers) - 1; i >= 0; i-- {
		l := &d.Layers[i]
		rows = append(rows, []cell{
			{text: fmt.Sprint(l.Index), right: true}, {text: size(l.Allocated), right: true}, {text: share(l.Allocated, l.Capacity), right: true},
			b.cell(i), {text: clean(l.File), style: bold},
		})
	}
	if err := p.fit(rows, 4); err != nil {
		return err
	}
	for _, line := range wrap(b.legend(), p.width) {
		if _, err := fmt.Fprintln(p, p.in(faint, line)); err != nil {
			return err
		}
	}
	return nil
}

func infoLayers(p *page, d *vdcore.Description) error {
	f := newFields(p)
	for i := len(d.Layers) - 1; i >= 0; i-- {
		if i < len(d.Layers)-1 {
			f.space()
		}
		addLayer(f, &d.Layers[i])
		if d.Layers[i].Incomplete && i < len(d.Layers)-1 {
			f.add("  snapshot", red, "incomplete: this state lacks something, too")
		}
	}
	return f.print()
}

// addLayer lists what is known of one layer, as far as it is set.
func addLayer(f *fields, l *vdcore.LayerDescription) {
	optional := func(name, value string) {
		if value != "" {
			f.add(name, plain, "%s", value)
		}
	}
	f.add(fmt.Sprintf("layer %d", l.Index), bold, "%s", l.File)
	f.add("  format", plain, "%s", strings.TrimSpace(strings.Join([]string{l.Format, l.Version, l.Variant}, " ")))
	f.add("  allocated", plain, "%s of %s (%s)", size(l.Allocated), size(l.Capacity), share(l.Allocated, l.Capacity))
	f.add("  file size", plain, "%s", size(l.FileSize))
	if l.BlockSize > 0 {
		f.add("  block size", plain, "%s", size(l.BlockSize))
	}
	f.add("  flags", plain, "%s (0x%x)", cmp.Or(strings.Join(l.ImageFlags.Names, ", "), "none"), l.ImageFlags.Value)
	optional("  modified", l.Modified)
	for _, s := range l.Snapshots {
		f.add("  snapshot", plain, "%s", strings.TrimSpace(s.Name+"  "+localTime(s.Taken)))
		optional("", s.Description)
	}
	optional("  comment", l.Comment)
	optional("  UUID", l.UUIDs.Image)
	optional("  modification", l.UUIDs.Modification)
	optional("  parent", l.UUIDs.Parent)
	if l.UUIDs.CID != "" {
		f.add("  CID", plain, "%s", l.UUIDs.CID)
		if l.ParentHint != "" || l.UUIDs.ParentCID != fmt.Sprintf("%08x", uint32(vdcore.NoParentCID)) {
			f.add("  parent CID", plain, "%s %s", l.UUIDs.ParentCID, l.ParentHint)
		}
	}
	if g := l.Geometry.PCHS; g.Cylinders > 0 {
		f.add("  geometry", plain, "%d/%d/%d", g.Cylinders, g.Heads, g.Sectors)
	}
	if g := l.Geometry.LCHS; g.Cylinders > 0 {
		f.add("  LCHS", plain, "%d/%d/%d", g.Cylinders, g.Heads, g.Sectors)
	}
	f.add("  link", verdictStyle(l.Link.Verdict), "%s", l.Link.Verdict)
	addTroubles(f, l)
}

// addTroubles lists what the user should know; the first of many damaged ranges.
func addTroubles(f *fields, l *vdcore.LayerDescription) {
	for _, w := range l.Warnings {
		f.add("  warning", yellow, "%s", w)
	}
	for _, n := range l.Notes {
		f.add("  note", plain, "%s", n)
	}
	for i, x := range l.Damage {
		if i == 5 {
			f.add("  damage", red, "and %d more ranges", int64(len(l.Damage)-i)+l.DamageMore)
			break
		}
		f.add("  damage", red, "%d bytes at %d: %s", x.Length, x.Start, x.Reason)
	}
}

func verdictStyle(v vdcore.Verdict) style {
	switch v {
	case vdcore.LinkOK:
		return green
	case vdcore.LinkMissing:
		return red
	case vdcore.LinkModified, vdcore.LinkForced:
		return yellow
	}
	return plain
}

func share(part, whole int64) string {
	if whole == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}
