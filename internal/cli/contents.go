package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"vdfs/fs"
	"vdfs/internal/shell"
	"vdfs/vdcore"
	"vdfs/vdcore/contents"
)

// contentsOf looks at what lies on the topmost disk.
func contentsOf(chain *vdcore.Chain) contents.Contents {
	d := chain.Top()
	return contents.Read(d, d.Capacity())
}

// infoContents prints the partitions of a disk, and what lies in them.
func infoContents(p *page, c *contents.Contents) error {
	f := newFields(p)
	if c.Table != "" {
		f.add("partitions", plain, "%s %s, sectors of %d bytes", strings.ToUpper(c.Table), c.TableID, c.SectorSize)
	}
	for _, x := range c.Partitions {
		f.add(fmt.Sprintf("  p%d", x.Number), plain, "%s", describePartition(x))
		if x.Content != nil {
			f.add("", plain, "%s", describeContent(x.Content))
		}
	}
	if c.Content != nil {
		f.add("content", plain, "%s", describeContent(c.Content))
	}
	for _, n := range c.Notes {
		f.add("  note", plain, "%s", n)
	}
	return f.print()
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

// stepsBefore are for a disk that is not mounted. image is what to mount, folder the
// name of the disk's folder then.
func stepsBefore(image, folder string, c contents.Contents) []string {
	const mnt = "/mnt"
	folder = filepath.Join(mnt, folder)
	return append([]string{fmt.Sprintf("vdfs mount %s %s", shell.Quote(image), mnt)}, steps(c, filepath.Join(folder, fs.DiskName), folder)...)
}
