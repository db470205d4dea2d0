package cli

import (
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
)

func formatsCommand() *cli.Command {
	return &cli.Command{
		Name: "formats", Usage: "list the image formats",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: runFormats,
	}
}

// formatRow is one backend. The keys are part of the interface: add, never rename.
type formatRow struct {
	Name         string      `json:"name"`
	Title        string      `json:"title"`
	Extensions   []string    `json:"extensions"`
	Variants     []string    `json:"variants"`     // that are read
	Capabilities vdcore.Bits `json:"capabilities"` // in VirtualBox's names and numbers
	Abilities    []string    `json:"abilities"`    // in this program's words
	Create       []createRow `json:"create"`
}

// createRow is one variant that can be made.
type createRow struct {
	Variant    string      `json:"variant"` // as create takes it
	As         string      `json:"as"`      // the format's own word
	ImageFlags vdcore.Bits `json:"image_flags"`
	Options    []string    `json:"options"` // of create
}

func rowOf(b vdcore.Backend) formatRow {
	can := b.Capabilities()
	r := formatRow{
		b.Name, b.Title, b.Extensions, b.Variants,
		vdcore.Bits{Value: uint32(can), Names: can.Names()}, b.Abilities(), []createRow{},
	}
	for _, m := range b.Makes {
		flags := vdcore.Bits{Value: uint32(m.Flags), Names: m.Flags.Names()}
		r.Create = append(r.Create, createRow{m.Name, m.Variant, flags, append([]string{}, m.Options...)})
	}
	return r
}

func runFormats(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	var rows []formatRow
	for _, b := range vdcore.Backends() {
		rows = append(rows, rowOf(b))
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, map[string]any{"schema": 1, "formats": rows})
	}
	for _, r := range rows {
		if err := printFormat(c.App.Writer, r); err != nil {
			return err
		}
	}
	return nil
}

func printFormat(out io.Writer, r formatRow) error {
	rows := [][]cell{
		{{text: r.Name}, {text: r.Title}, {text: strings.Join(r.Extensions, " ")}},
		{{}, {text: "reads"}, {text: strings.Join(r.Variants, ", ")}},
		{{}, {text: "can"}, {text: strings.Join(r.Abilities, ", ")}},
	}
	for _, m := range r.Create {
		name := m.Variant
		if m.As != m.Variant {
			name += " (" + m.As + ")"
		}
		if len(m.Options) > 0 {
			name += ": " + strings.Join(m.Options, ", ")
		}
		rows = append(rows, []cell{{}, {text: "makes"}, {text: name}})
	}
	return newPage(out).table(rows)
}
