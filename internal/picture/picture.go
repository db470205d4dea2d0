package picture

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
)

const (
	Width     = 1200 // pixels
	Columns   = Width - margin - stripX
	MaxStrips = 500 // of layers

	margin   = 24
	stripX   = 300 // where the strips begin; names stand before
	bandH    = 22
	tallest  = 48   // a strip with its gap, pixels
	lowest   = 4    // the same of hundreds
	mostHigh = 2200 // all strips together
	twoLines = 38   // a row with room for two lines of text, pixels
	oneLine  = 18
	legendH  = 44
	headerH  = 84
)

// Cell says what a layer holds of one part of the disk: shares from 0 to 1.
type Cell struct {
	Data, Packed, Zero, Lost float64
	Hidden                   float64 // of Data and Packed: covered by a layer above
}

// Strip is the disk, or a layer.
type Strip struct {
	Name, Note string
	Alert      bool   // the note is a bad one
	Cells      []Cell // Columns of them; fewer leave the rest of the strip empty
}

// Band is a part of the disk with a name, a partition. From and To are from 0 to 1.
type Band struct {
	Name     string
	From, To float64
}

// Picture is what is drawn.
type Picture struct {
	Title, Subtitle string
	Alert           string // said in red
	Scale           []string
	Bands           []Band
	Disk            Strip // as it shows; always with its name
	Strips          []Strip
}

// Encode draws the picture as PNG.
func (p *Picture) Encode(w io.Writer) error {
	img, err := p.draw()
	if err != nil {
		return err
	}
	return png.Encode(w, img)
}

var (
	ink        = color.RGBA{0x1f, 0x29, 0x33, 0xff}
	faintInk   = color.RGBA{0x66, 0x72, 0x80, 0xff}
	paper      = color.RGBA{0xff, 0xff, 0xff, 0xff}
	free       = color.RGBA{0xec, 0xef, 0xf2, 0xff}
	data       = color.RGBA{0x1f, 0x5f, 0xa8, 0xff}
	dataHid    = color.RGBA{0xa6, 0xc4, 0xe4, 0xff}
	packed     = color.RGBA{0x6b, 0x3f, 0xa0, 0xff}
	packedHid  = color.RGBA{0xcd, 0xbd, 0xe6, 0xff}
	zero       = color.RGBA{0xbd, 0xe3, 0xcb, 0xff}
	lost       = color.RGBA{0xd6, 0x28, 0x28, 0xff}
	bandColour = color.RGBA{0xf3, 0xd9, 0x9b, 0xff}
)

// canvas is a picture being drawn.
type canvas struct {
	*image.RGBA
	fonts *fonts
}

func (p *Picture) draw() (*image.RGBA, error) {
	f, err := loadFonts()
	if err != nil {
		return nil, err
	}
	row := p.rowHeight()
	top := headerH
	if len(p.Bands) > 0 {
		top += bandH + 10
	}
	height := top + tallest + row*len(p.Strips) + legendH
	c := &canvas{image.NewRGBA(image.Rect(0, 0, Width, height)), f}
	c.fill(c.Bounds(), paper)
	c.header(p)
	if len(p.Bands) > 0 {
		c.text(margin, headerH+bandH-6, "partitions", f.regular, ink, stripX-margin)
		for _, b := range p.Bands {
			c.band(b, headerH)
		}
	}
	c.strip(&p.Disk, 0, top, tallest)
	for i := range p.Strips {
		c.strip(&p.Strips[i], i, top+tallest+i*row, row)
	}
	c.legend(height-legendH+26, append(p.Strips, p.Disk))
	return c.RGBA, nil
}

// rowHeight is what is left for a strip with its gap.
func (p *Picture) rowHeight() int {
	return max(lowest, min(tallest, mostHigh/max(len(p.Strips), 1)))
}

func (c *canvas) fill(r image.Rectangle, with color.Color) {
	draw.Draw(c, r, image.NewUniform(with), image.Point{}, draw.Src)
}

func (c *canvas) header(p *Picture) {
	end := c.text(margin, 34, p.Title, c.fonts.title, ink, Width-2*margin)
	c.text(end+16, 34, p.Alert, c.fonts.bold, lost, Width-margin-end-16)
	c.text(margin, 56, p.Subtitle, c.fonts.regular, faintInk, stripX-margin-40)
	for i, label := range p.Scale {
		x := stripX + i*(Columns-1)/max(len(p.Scale)-1, 1)
		c.fill(image.Rect(x, headerH-14, x+1, headerH-4), faintInk)
		left := x - c.width(label, c.fonts.regular)/2
		c.text(min(max(left, stripX), Width-margin-c.width(label, c.fonts.regular)), headerH-18, label, c.fonts.regular, faintInk, Columns)
	}
}

func (c *canvas) band(b Band, y int) {
	from, to := stripX+int(b.From*Columns), stripX+int(b.To*Columns)
	to = max(to, from+2)
	c.fill(image.Rect(from, y, to, y+bandH), bandColour)
	c.fill(image.Rect(from, y, from+1, y+bandH), ink)
	if room := to - from - 8; room > 20 {
		c.text(from+5, y+bandH-6, b.Name, c.fonts.regular, ink, room)
	}
}

// strip draws one, the i-th, and its name where there is room for names of so many.
func (c *canvas) strip(s *Strip, i, y, row int) {
	gap := max(row/5, 1)
	for x := range Columns {
		var cell Cell
		if x < len(s.Cells) {
			cell = s.Cells[x]
		}
		c.fill(image.Rect(stripX+x, y, stripX+x+1, y+row-gap), cell.colour())
	}
	noteInk := faintInk
	if s.Alert {
		noteInk = lost
	}
	room := stripX - margin - 12
	switch {
	case row >= twoLines:
		c.text(margin, y+15, s.Name, c.fonts.bold, ink, room)
		c.text(margin, y+32, s.Note, c.fonts.regular, noteInk, room)
	case row >= oneLine:
		end := c.text(margin, y+12, s.Name, c.fonts.bold, ink, room*2/3)
		c.text(end+8, y+12, s.Note, c.fonts.regular, noteInk, stripX-12-end-8)
	case i%((oneLine+row-1)/row) == 0:
		c.text(margin, y+12, s.Name, c.fonts.regular, ink, room)
		c.fill(image.Rect(stripX-8, y, stripX-2, y+1), faintInk)
	}
}

// leastShare is how strongly the least bit of data shows.
const leastShare = 0.4

// colour mixes what a part holds.
func (c Cell) colour() color.RGBA {
	if c.Lost > 0 {
		return lost
	}
	held := min(c.Data+c.Packed, 1)
	hidden := min(c.Hidden, held)
	mix := mixer{}
	if held > 0 {
		weight := max(held, leastShare) / held
		shown := (held - hidden) / held
		mix.add(data, c.Data*weight*shown)
		mix.add(packed, c.Packed*weight*shown)
		mix.add(dataHid, c.Data*weight*(1-shown))
		mix.add(packedHid, c.Packed*weight*(1-shown))
	}
	mix.add(zero, min(c.Zero, max(0, 1-mix.sum)))
	mix.add(free, max(0, 1-mix.sum))
	return mix.colour()
}

// mixer is a weighted mean of colours.
type mixer struct{ r, g, b, sum float64 }

func (m *mixer) add(c color.RGBA, weight float64) {
	m.r += float64(c.R) * weight
	m.g += float64(c.G) * weight
	m.b += float64(c.B) * weight
	m.sum += weight
}

func (m *mixer) colour() color.RGBA {
	return color.RGBA{uint8(m.r / m.sum), uint8(m.g / m.sum), uint8(m.b / m.sum), 0xff}
}

// legend explains the colours that occur.
func (c *canvas) legend(y int, strips []Strip) {
	var sum Cell
	for _, s := range strips {
		for _, cell := range s.Cells {
			sum.Data += cell.Data
			sum.Packed += cell.Packed
			sum.Zero += cell.Zero
			sum.Lost += cell.Lost
			sum.Hidden += cell.Hidden
		}
	}
	x := stripX
	for _, k := range []struct {
		there  bool
		colour color.RGBA
		text   string
	}{
		{sum.Data > 0, data, "data"}, {sum.Packed > 0, packed, "compressed"}, {sum.Hidden > 0, dataHid, "data a layer above hides"},
		{sum.Zero > 0, zero, "zeros"}, {true, free, "nothing held"}, {sum.Lost > 0, lost, "lost, or some of it"},
	} {
		if !k.there {
			continue
		}
		c.fill(image.Rect(x, y-11, x+14, y+2), k.colour)
		x = c.text(x+20, y, k.text, c.fonts.regular, ink, Columns) + 26
	}
}
