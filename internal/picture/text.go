package picture

import (
	"image"
	"image/color"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// fonts are the faces text is set in.
type fonts struct{ regular, bold, title font.Face }

// loadFonts reads the fonts, which are part of the program, once. Faces are not for
// several goroutines: a picture is drawn by one, and pictures one after the other.
var loadFonts = sync.OnceValues(func() (*fonts, error) {
	var f fonts
	for _, x := range []struct {
		to   *font.Face
		ttf  []byte
		size float64
	}{{&f.regular, goregular.TTF, 13}, {&f.bold, gobold.TTF, 13}, {&f.title, gobold.TTF, 20}} {
		parsed, err := opentype.Parse(x.ttf)
		if err != nil {
			return nil, err
		}
		*x.to, err = opentype.NewFace(parsed, &opentype.FaceOptions{Size: x.size, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			return nil, err
		}
	}
	return &f, nil
})

func (c *canvas) width(text string, face font.Face) int {
	return font.MeasureString(face, text).Ceil()
}

// text writes text from x on, above the line y, without its middle if there is no room
// for it, and returns where it ends.
func (c *canvas) text(x, y int, text string, face font.Face, ink color.Color, room int) int {
	d := font.Drawer{Dst: c, Src: image.NewUniform(ink), Face: face, Dot: fixed.P(x, y)}
	d.DrawString(c.shorten(text, face, room))
	return d.Dot.X.Ceil()
}

func (c *canvas) shorten(text string, face font.Face, room int) string {
	runes := []rune(text)
	for cut := 0; c.width(text, face) > room; cut++ {
		if cut >= len(runes) {
			return ""
		}
		keep := len(runes) - cut - 1
		text = string(runes[:(keep+1)/2]) + "…" + string(runes[len(runes)-keep/2:])
	}
	return text
}
