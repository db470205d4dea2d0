package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"vdfs/internal/picture"
	"vdfs/vdcore"
	"vdfs/vdcore/contents"
	"vdfs/vdcore/imgops"
)

// writePNG draws the chain into a file that is not there yet, unless forced, or to
// stdout for "-".
func writePNG(c *cli.Context, chain *vdcore.Chain, path string) error {
	if path == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
		return usageError{"not writing a picture to a terminal; redirect stdout or name a file"}
	}
	ctx, stop := untilSignal(c)
	defer stop()
	p, err := drawChain(ctx, chain)
	if err != nil {
		return err
	}
	var b bytes.Buffer // it is small, and a file is made when it is whole
	if err := p.Encode(&b); err != nil {
		return err
	}
	if path == "-" {
		_, err := b.WriteTo(os.Stdout)
		return err
	}
	return writeNew(chain, path, b.Bytes(), c.Bool("force"))
}

// writeNew writes a file. One that is there is replaced with force, but never one the
// chain is made of.
func writeNew(chain *vdcore.Chain, path string, content []byte, force bool) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		if err := refusePart(chain, path); err != nil {
			return err
		}
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, mode, 0o666)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w; --force replaces it", err)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// refusePart refuses to write over a file of the chain, by whatever name.
func refusePart(chain *vdcore.Chain, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return nil // not there
	}
	for _, l := range chain.Layers() {
		for _, f := range append(filesAt(l), l.Path) {
			if part, err := os.Stat(f); err == nil && os.SameFile(st, part) {
				return usageError{fmt.Sprintf("%s is part of the image; name another file", path)}
			}
		}
	}
	return nil
}

func filesAt(l *vdcore.Layer) (list []string) {
	for _, f := range l.Image.Files() {
		list = append(list, f.Path())
	}
	return list
}

// drawChain makes the picture of a chain: the disk, then its layers from the topmost
// down, several in one strip when there are too many, and the partitions above.
func drawChain(ctx context.Context, chain *vdcore.Chain) (*picture.Picture, error) {
	s, err := imgops.TakeSurvey(ctx, chain, picture.Columns, 0)
	if err != nil {
		return nil, err
	}
	seen, err := s.Seen(ctx, chain)
	if err != nil {
		return nil, err
	}
	d := chain.Describe()
	p := &picture.Picture{
		Title: clean(filepath.Base(d.Image)), Subtitle: fmt.Sprintf("%s, %s", size(d.Capacity), layersOf(len(d.Layers))),
		Disk: diskStrip(s, seen, &d), Bands: bandsOf(contentsOf(chain), d.Capacity),
	}
	if d.Incomplete {
		p.Alert = "incomplete: some of it cannot be read"
	}
	for i := range 5 {
		p.Scale = append(p.Scale, size(s.Capacity/4*int64(i)+s.Capacity%4*int64(i)/4))
	}
	group := (len(d.Layers)-1)/picture.MaxStrips + 1
	for top := len(d.Layers) - 1; top >= 0; top -= group {
		p.Strips = append(p.Strips, layerStrip(s, seen, d.Layers[max(top-group+1, 0):top+1]))
	}
	return p, nil
}

// bandsOf are the partitions of a disk, but for those that only hold others.
func bandsOf(c contents.Contents, capacity int64) (list []picture.Band) {
	whole := float64(max(capacity, 1))
	for _, p := range c.Partitions {
		if p.Extended {
			continue
		}
		name := fmt.Sprintf("p%d", p.Number)
		if p.Content != nil {
			name += " " + p.Content.Type
		}
		list = append(list, picture.Band{Name: name, From: float64(p.Start) / whole, To: float64(p.Start+p.Size) / whole})
	}
	return list
}

func layersOf(n int) string {
	if n == 1 {
		return "1 layer"
	}
	return fmt.Sprintf("%d layers", n)
}

// diskStrip is the disk as the topmost image shows it.
func diskStrip(s *imgops.Survey, seen [][]imgops.Share, d *vdcore.Description) picture.Strip {
	strip := picture.Strip{Name: "the disk", Note: "what all layers show together", Alert: d.Incomplete, Cells: make([]picture.Cell, picture.Columns)}
	lost := int64(0)
	for layer, shares := range seen {
		for i, share := range shares {
			if layer == len(seen)-1 {
				share.Zero = 0 // held by nobody
			}
			lost += share.Lost
			addShare(&strip.Cells[i], share, s.Part)
		}
	}
	if lost > 0 {
		strip.Note = size(lost) + " lost"
	}
	return strip
}

func addShare(c *picture.Cell, s imgops.Share, part int64) {
	c.Data += float64(s.Data) / float64(part)
	c.Packed += float64(s.Packed) / float64(part)
	c.Zero += float64(s.Zero) / float64(part)
	c.Lost += float64(s.Lost) / float64(part)
}

// layerStrip is one layer, or several neighbours of a very long chain.
func layerStrip(s *imgops.Survey, seen [][]imgops.Share, layers []vdcore.LayerDescription) picture.Strip {
	top := layers[len(layers)-1]
	strip := picture.Strip{Name: fmt.Sprintf("%d  %s", top.Index, clean(top.File)), Cells: make([]picture.Cell, picture.Columns)}
	if len(layers) > 1 {
		strip.Name = fmt.Sprintf("%d to %d", top.Index, layers[0].Index)
	}
	held, capacity := int64(0), int64(0)
	for _, l := range layers {
		held, capacity = held+l.Allocated, max(capacity, l.Capacity)
		for i, own := range s.Layers[l.Index] {
			addShare(&strip.Cells[i], own, s.Part)
			shown := seen[l.Index][i]
			hidden := own.Data + own.Packed - shown.Data - shown.Packed
			strip.Cells[i].Hidden += float64(hidden) / float64(s.Part)
		}
		strip.Alert = strip.Alert || l.Link.Verdict == vdcore.LinkMissing || len(l.Damage) > 0
	}
	what := top.Format + " " + top.Variant
	switch {
	case len(layers) == 1 && len(top.Snapshots) > 0:
		what = fmt.Sprintf("%q", clean(top.Snapshots[0].Name))
	case layers[0].Link.Verdict == vdcore.LinkMissing:
		what = "its parent is missing"
	case strip.Alert:
		what = "damaged"
	}
	strip.Note = fmt.Sprintf("%s, %s (%s)", what, size(held), share(held, capacity))
	return strip
}
