package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
)

func mapCommand() *cli.Command {
	return &cli.Command{
		Name: "map", Usage: "show where each part of the disk lies",
		ArgsUsage: "IMAGE",
		Description: "One line for each range of the disk: where it starts, how long it is, what it is\n" +
			"(data, zero, packed, lost), which layer answers (0 is the topmost, as in qemu-img map)\n" +
			"and where in which file. --layers shows what each layer holds itself, free ranges included.\n" +
			"--png draws the disk and each layer as a strip: what is held, what of it shows, what is lost.\n" +
			"--ddrescue prints a map file of the disk, in which + can be read and - is lost.",
		Flags: append(openFlags(),
			&cli.BoolFlag{Name: "json", Usage: "as JSON, with the keys of qemu-img map"},
			&cli.BoolFlag{Name: "layers", Usage: "each layer on its own instead of the chain"},
			&cli.StringFlag{Name: "png", Usage: "draw a picture into `FILE`; - is stdout"},
			&cli.BoolFlag{Name: "force", Usage: "with --png: replace FILE if it is there"},
			&cli.BoolFlag{Name: "ddrescue", Usage: "as a map file of ddrescue"}),
		Action: runMap,
	}
}

func runMap(c *cli.Context) error {
	switch {
	case c.Bool("ddrescue") && (c.Bool("json") || c.Bool("layers")), c.IsSet("png") && (c.Bool("json") || c.Bool("layers") || c.Bool("ddrescue")):
		return usageError{"--png, --ddrescue or a list (--json, --layers): choose one"}
	case c.IsSet("png") && c.String("png") == "":
		return usageError{"--png takes a file name, or - for stdout"}
	case c.Bool("force") && !c.IsSet("png"):
		return usageError{"--force goes with --png"}
	}
	chain, err := openOnly(c)
	if err != nil {
		return err
	}
	defer chain.Close()
	if c.IsSet("png") {
		return writePNG(c, chain, c.String("png"))
	}
	w := bufio.NewWriter(c.App.Writer)
	switch {
	case c.Bool("ddrescue"):
		err = printReadable(w, chain.Top())
	case c.Bool("layers"):
		err = printLayers(w, chain, c.Bool("json"))
	default:
		err = printMap(w, chain, c.Bool("json"))
	}
	if err != nil {
		return err
	}
	return w.Flush()
}

// mapRow is one range, with the keys of `qemu-img map --output=json` and more.
type mapRow struct {
	Start      int64  `json:"start"`
	Length     int64  `json:"length"`
	Depth      int    `json:"depth"` // 0 is the topmost layer
	Present    bool   `json:"present"`
	Zero       bool   `json:"zero"`
	Data       bool   `json:"data"`
	Compressed bool   `json:"compressed"`
	Kind       string `json:"kind"`
	Offset     *int64 `json:"offset,omitempty"`
	File       string `json:"file,omitempty"`
}

// newRow is one extent as a row. A hole in the file of a flat image has its place
// in the image and reads as zeros: both data and zero, as qemu-img map has it.
func newRow(f vdcore.Flat, layers []*vdcore.Layer) mapRow {
	layer := max(f.Layer, 0) // nothing below the base: the base is the one to say so
	info := layers[layer].Info()
	hole := f.Kind == vdcore.Zero && f.Layer >= 0 && info.Format == "vmdk" && slices.Contains(info.Flags, "fixed")
	r := mapRow{
		Start: f.Off, Length: f.Len, Depth: len(layers) - 1 - layer, Kind: f.Kind.String(),
		Present: f.Layer >= 0 && f.Kind != vdcore.Free, Zero: f.Kind == vdcore.Zero || f.Kind == vdcore.Free,
		Data: f.Kind == vdcore.Data || f.Kind == vdcore.Packed || hole, Compressed: f.Kind == vdcore.Packed,
		File: f.Path,
	}
	if f.Kind == vdcore.Data {
		r.Offset = &f.Pos
	}
	return r
}

// joins reports whether b goes on where r ends, in the same way.
func (r mapRow) joins(b mapRow) bool {
	if r.Kind != b.Kind || r.Depth != b.Depth || r.Present != b.Present || r.File != b.File {
		return false
	}
	return r.Offset == nil || *b.Offset == *r.Offset+r.Length
}

// rows joins ranges and hands on the finished ones.
type rows struct {
	emit func(mapRow) error
	last mapRow
	err  error
}

func (s *rows) add(r mapRow) bool {
	if s.last.Length > 0 && s.last.joins(r) {
		s.last.Length += r.Length
		return true
	}
	s.flush()
	s.last = r
	return s.err == nil
}

func (s *rows) flush() {
	if s.last.Length > 0 && s.err == nil {
		s.err = s.emit(s.last)
	}
	s.last = mapRow{}
}

// walkMap sends the joined ranges of the whole chain to emit.
func walkMap(chain *vdcore.Chain, emit func(mapRow) error) error {
	s := rows{emit: emit}
	d := chain.Top()
	if err := d.Each(0, d.Capacity(), func(f vdcore.Flat) bool { return s.add(newRow(f, chain.Layers())) }); err != nil {
		return err
	}
	s.flush()
	return s.err
}

// layerStep is how much of a layer is mapped at a time, bytes.
const layerStep = 1 << 30

// walkLayer sends the joined ranges of one layer to emit.
func walkLayer(layers []*vdcore.Layer, l *vdcore.Layer, emit func(mapRow) error) error {
	s := rows{emit: emit}
	files := l.Image.Files()
	var extents []vdcore.Extent
	for off, end := int64(0), l.Info().Capacity; off < end; off += layerStep {
		var err error
		if extents, err = l.Image.Map(extents[:0], off, min(layerStep, end-off)); err != nil {
			return fmt.Errorf("%s: %w", l.Path, err)
		}
		for _, e := range extents {
			f := vdcore.Flat{Extent: e, Layer: l.Index}
			if e.Kind == vdcore.Data || e.Kind == vdcore.Packed {
				f.Path = files[e.File].Path()
			}
			if !s.add(newRow(f, layers)) {
				return s.err
			}
		}
	}
	s.flush()
	return s.err
}

func printMap(w io.Writer, chain *vdcore.Chain, asJSON bool) error {
	if !asJSON {
		fmt.Fprintln(w, mapTitle)
		return walkMap(chain, textRow(w))
	}
	fmt.Fprintf(w, `{"schema": 1, "capacity": %d, "extents": [`, chain.Top().Capacity())
	if err := walkMap(chain, jsonRow(w)); err != nil {
		return err
	}
	fmt.Fprintln(w, "\n]}")
	return nil
}

func printLayers(w io.Writer, chain *vdcore.Chain, asJSON bool) error {
	layers := chain.Layers()
	top := len(layers) - 1
	if asJSON {
		fmt.Fprint(w, `{"schema": 1, "layers": [`)
	}
	for i := top; i >= 0; i-- {
		l := layers[i]
		emit := textRow(w)
		if asJSON {
			path, _ := json.Marshal(l.Path)
			fmt.Fprintf(w, "\n{\"index\": %d, \"path\": %s, \"capacity\": %d, \"extents\": [", i, path, l.Info().Capacity)
			emit = jsonRow(w)
		} else {
			fmt.Fprintf(w, "layer %d  %s\n%s\n", i, clean(l.Path), mapTitle)
		}
		if err := walkLayer(layers, l, emit); err != nil {
			return err
		}
		if asJSON {
			fmt.Fprint(w, "\n]}", map[bool]string{true: ",", false: ""}[i > 0])
		}
	}
	if asJSON {
		fmt.Fprintln(w, "\n]}")
	}
	return nil
}

const mapTitle = "         start         length  kind    depth  offset and file"

func textRow(w io.Writer) func(mapRow) error {
	return func(r mapRow) error {
		place := ""
		if r.Offset != nil {
			place = fmt.Sprintf("%d ", *r.Offset)
		}
		if r.File != "" {
			place += clean(filepath.Base(r.File))
		}
		_, err := fmt.Fprintf(w, "%14d %14d  %-6s  %5d  %s\n", r.Start, r.Length, r.Kind, r.Depth, place)
		return err
	}
}

func jsonRow(w io.Writer) func(mapRow) error {
	sep := "\n"
	return func(r mapRow) error {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s%s", sep, b)
		sep = ",\n"
		return err
	}
}
