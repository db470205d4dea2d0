package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

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

type formatRow struct {
	Name       string   `json:"name"`
	Title      string   `json:"title"`
	Extensions []string `json:"extensions"`
	Variants   []string `json:"variants"`
}

func runFormats(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	var rows []formatRow
	for _, b := range vdcore.Backends() {
		rows = append(rows, formatRow{b.Name, b.Title, b.Extensions, b.Variants})
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, map[string]any{"schema": 1, "formats": rows})
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Name, r.Title, strings.Join(r.Extensions, " "), strings.Join(r.Variants, ", "))
	}
	return w.Flush()
}
