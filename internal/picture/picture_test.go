package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"testing"
)

// decoded draws a picture and reads it back.
func decoded(t *testing.T, p *Picture) image.Image {
	t.Helper()
	var b bytes.Buffer
	if err := p.Encode(&b); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func at(img image.Image, x, y int) color.RGBA {
	return color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
}

// TestCells: each kind has its colour where it lies, and nothing is so small that it
// does not show.
func TestCells(t *testing.T) {
	cells := []Cell{{}, {Data: 1}, {Packed: 1}, {Zero: 1}, {Data: 1, Lost: 1e-9}, {Data: 1, Hidden: 1}, {Data: 1e-9}}
	img := decoded(t, &Picture{Disk: Strip{Cells: cells}, Strips: []Strip{{Cells: cells[1:2]}}})
	y := headerH + 5
	for i, want := range []color.RGBA{free, data, packed, zero, lost, dataHid} {
		if got := at(img, stripX+i, y); got != want {
			t.Errorf("cell %d: %v, want %v", i, got, want)
		}
	}
	if got := at(img, stripX+6, y); int(free.R)-int(got.R) < 40 {
		t.Errorf("a trace of data is %v on %v", got, free)
	}
	if got := at(img, stripX, headerH+tallest+5); got != data {
		t.Errorf("the second strip begins with %v", got)
	}
	if got := at(img, stripX+Columns, y); got != paper {
		t.Errorf("behind the strip: %v", got)
	}
}

// TestSize: wide as promised, and never higher than a screen or three.
func TestSize(t *testing.T) {
	for _, n := range []int{0, 1, 100, 500} {
		b := decoded(t, &Picture{Title: "win10.vdi", Scale: []string{"0 B", "1 GiB"}, Strips: make([]Strip, n)}).Bounds()
		if b.Dx() != Width || b.Dy() > 2500 || b.Dy() < headerH+tallest+n*lowest {
			t.Errorf("%d strips: %v", n, b)
		}
	}
}

// TestBands: partitions stand above the strips, and push them down.
func TestBands(t *testing.T) {
	img := decoded(t, &Picture{Bands: []Band{{"p1", 0.25, 0.5}, {"p2", 0.9, 0.9}}, Disk: Strip{Cells: []Cell{{Data: 1}}}})
	for x, want := range map[int]color.RGBA{Columns / 8: paper, Columns*3/8 + 30: bandColour, Columns * 3 / 4: paper, Columns*9/10 + 1: bandColour} {
		if got := at(img, stripX+x, headerH+2); got != want {
			t.Errorf("at %d: %v, want %v", x, got, want)
		}
	}
	if got := at(img, stripX, headerH+bandH+15); got != data {
		t.Errorf("the strip begins with %v", got)
	}
}

// TestText is cut to its room, whatever is in it.
func TestText(t *testing.T) {
	f, err := loadFonts()
	if err != nil {
		t.Fatal(err)
	}
	c := &canvas{image.NewRGBA(image.Rect(0, 0, 10, 10)), f}
	for _, text := range []string{"", "disk", "Größe und Länge einer Platte", "磁盘磁盘磁盘磁盘磁盘磁盘", "\x00\xff"} {
		for _, room := range []int{-5, 0, 30, 1000} {
			if got := c.shorten(text, f.regular, room); c.width(got, f.regular) > max(room, 0) {
				t.Errorf("%q in %d pixels: %q", text, room, got)
			}
		}
	}
}
