package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"vdfs/fs"
	"vdfs/vdcore"
	"vdfs/vdcore/contents"
)

// contentsOf looks at what lies on the topmost disk.
func contentsOf(chain *vdcore.Chain) contents.Contents {
	d := chain.Top()
	return contents.Read(d, d.Capacity())
}

// printContents prints the partitions of a chain, and what can be done with them.
func printContents(w io.Writer, chain *vdcore.Chain) error {
	c := contentsOf(chain)
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(tw, "%s\t%s\n", name, clean(value)) }
	fmt.Fprintln(tw)
	if c.Table != "" {
		row("partitions", strings.TrimSpace(fmt.Sprintf("%s %s, sectors of %d bytes", strings.ToUpper(c.Table), c.TableID, c.SectorSize)))
	}
	for _, p := range c.Partitions {
		row(fmt.Sprintf("  p%d", p.Number), describePartition(p))
		if p.Content != nil {
			row("", describeContent(p.Content))
		}
	}
	if c.Content != nil {
		row("content", describeContent(c.Content))
	}
	for _, n := range c.Notes {
		row("  note", n)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	return printSteps(w, stepsBefore(chain, c))
}

func describePartition(p contents.Partition) string {
	s := fmt.Sprintf("%s at %d, %s", size(p.Size), p.Start, p.Type)
	if p.Type == "" {
		s = fmt.Sprintf("%s at %d, type %s", size(p.Size), p.Start, p.TypeID)
	}
	if p.Name != "" {
		s += fmt.Sprintf(", %q", p.Name)
	}
	if p.Bootable {
		s += ", bootable"
	}
	return s
}

func describeContent(c *contents.Content) string {
	s := c.Type
	if c.Label != "" {
		s += fmt.Sprintf(" %q", c.Label)
	}
	return strings.TrimSpace(s + " " + c.UUID)
}

// stepsBefore are for an image that is not mounted.
func stepsBefore(chain *vdcore.Chain, c contents.Contents) []string {
	const mnt = "/mnt"
	image := chain.Layers()[len(chain.Layers())-1].Path
	folder := fs.Source{Chain: chain}.Folder()
	return append([]string{fmt.Sprintf("vdfs mount %s %s", shell(image), mnt)},
		steps(c, mnt+"/"+folder+"/disk.raw", mnt+"/"+folder)...)
}
