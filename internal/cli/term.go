package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rivo/uniseg"
	"golang.org/x/term"
)

// page is what a command prints on. On a terminal it has a width, which nothing printed
// exceeds, and colours, unless NO_COLOR is set or TERM says that it has none; anywhere
// else it has neither, and nothing is cut or broken.
type page struct {
	io.Writer
	width  int // columns, 0: no limit
	colour bool
}

const (
	usualWidth = 80 // of a terminal that does not tell
	leastWidth = 40 // narrower ones wrap
)

func newPage(w io.Writer) *page {
	p := &page{Writer: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return p
	}
	p.width = usualWidth
	if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
		p.width = max(columns, leastWidth)
	}
	p.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" // no-color.org
	return p
}

// style is a parameter of the control sequence "select graphic rendition".
type style string

const (
	plain  style = ""
	bold   style = "1"
	faint  style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	blue   style = "34"
)

// in gives text a style.
func (p *page) in(s style, text string) string {
	if !p.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// cell is one field of a table. Its text is clean and has no styles in it.
type cell struct {
	text  string
	style style
	paint func(p *page) string // the text with styles of its own; nil when style is all
	right bool                 // aligned to the right
}

// table prints rows in columns, as wide as the widest of each, two apart. The last of a
// row is not filled up.
func (p *page) table(rows [][]cell) error {
	widths := widthsOf(rows)
	for _, row := range rows {
		if _, err := fmt.Fprintln(p, strings.TrimRight(p.row(row, widths), " ")); err != nil {
			return err
		}
	}
	return nil
}

// widthsOf is how wide each column of a table is.
func widthsOf(rows [][]cell) (widths []int) {
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(c.text))
		}
	}
	return widths
}

func tableWidth(rows [][]cell) int {
	sum := -2
	for _, n := range widthsOf(rows) {
		sum += n + 2
	}
	return sum
}

func (p *page) row(row []cell, widths []int) string {
	var b strings.Builder
	for i, c := range row {
		if i > 0 {
			b.WriteString("  ")
		}
		fill := strings.Repeat(" ", widths[i]-columns(c.text))
		if c.right {
			b.WriteString(fill)
		}
		if c.paint != nil {
			b.WriteString(c.paint(p))
		} else {
			b.WriteString(p.in(c.style, c.text))
		}
		if !c.right && i < len(row)-1 {
			b.WriteString(fill)
		}
	}
	return b.String()
}

// fit is table with one column shortened so that the rest fits the width.
func (p *page) fit(rows [][]cell, column int) error {
	if p.width == 0 {
		return p.table(rows)
	}
	room := max(widthsOf(rows)[column]-max(tableWidth(rows)-p.width, 0), 8)
	for _, row := range rows {
		row[column].text = shorten(row[column].text, room)
	}
	return p.table(rows)
}

// columns is how many columns of a terminal a text takes: not its bytes nor its runes.
func columns(text string) int { return uniseg.StringWidth(text) }

// shorten takes out the middle of a text so that it fits.
func shorten(text string, width int) string {
	if columns(text) <= width {
		return text
	}
	clusters := clusters(text)
	head, tail, room := 0, len(clusters), width-1
	for taken := 0; head < tail; {
		next := clusters[head]
		if head > len(clusters)-tail { // in turn
			next = clusters[tail-1]
		}
		if taken += columns(next); taken > room {
			break
		}
		if head > len(clusters)-tail {
			tail--
		} else {
			head++
		}
	}
	return strings.Join(clusters[:head], "") + "…" + strings.Join(clusters[tail:], "")
}

// clusters are what a person takes for the letters of a text.
func clusters(text string) (list []string) {
	for g := uniseg.NewGraphemes(text); g.Next(); {
		list = append(list, g.Str())
	}
	return list
}

// wrap breaks a text into lines that fit: between words, else behind a slash, else
// anywhere. Without a width it is one line.
func wrap(text string, width int) []string {
	if width <= 0 || columns(text) <= width {
		return []string{text}
	}
	var lines []string
	line, used := "", 0
	for _, piece := range pieces(text, width) {
		n := columns(piece)
		if used > 0 && used+columns(strings.TrimRight(piece, " ")) > width {
			lines = append(lines, strings.TrimRight(line, " "))
			line, used = "", 0
		}
		line, used = line+piece, used+n
	}
	return append(lines, strings.TrimRight(line, " "))
}

// pieces cuts a text where a line may end: behind blanks, and, in words longer than a
// line, behind slashes and wherever it must be.
func pieces(text string, width int) (list []string) {
	for _, word := range strings.SplitAfter(text, " ") {
		if columns(word) <= width {
			list = append(list, word)
			continue
		}
		for _, part := range strings.SplitAfter(word, "/") {
			if columns(part) <= width {
				list = append(list, part)
				continue
			}
			list = append(list, clusters(part)...)
		}
	}
	return list
}

// fields are named values, one below the other.
type fields struct {
	page *page
	list []field
}

type field struct {
	name  string
	style style // of the value
	value string
}

func newFields(p *page) *fields { return &fields{page: p} }

func (f *fields) add(name string, s style, format string, args ...any) {
	f.list = append(f.list, field{name, s, strings.TrimRight(clean(fmt.Sprintf(format, args...)), " ")})
}

// space leaves a line empty.
func (f *fields) space() { f.list = append(f.list, field{}) }

// print aligns the values, and breaks those that are too long.
func (f *fields) print() error {
	indent := 0
	for _, x := range f.list {
		indent = max(indent, columns(x.name)+2)
	}
	for _, x := range f.list {
		for i, line := range wrap(x.value, f.page.width-indent) {
			if i > 0 {
				x.name = ""
			}
			text := fmt.Sprintf("%-*s", indent, x.name) + f.page.in(x.style, line)
			if _, err := fmt.Fprintln(f.page, strings.TrimRight(text, " ")); err != nil {
				return err
			}
		}
	}
	return nil
}

// complain prints a message for the user to stderr.
func complain(s style, prefix, text string) {
	p := newPage(os.Stderr)
	fmt.Fprintln(p, p.in(s, prefix)+strings.TrimPrefix(p.layOut(prefix+" "+text), prefix))
}

// layOut gives, on a terminal, a message that is too long a line for each of its clauses,
// the later ones indented. Elsewhere it is left as it is, one line for one cause.
func (p *page) layOut(text string) string {
	if p.width == 0 {
		return text
	}
	var lines []string
	for _, l := range strings.Split(text, "\n") {
		if columns(l) <= p.width {
			lines = append(lines, l)
			continue
		}
		for i, clause := range strings.SplitAfter(l, "; ") {
			indent := ""
			if i > 0 {
				indent = "  "
			}
			for j, part := range wrap(strings.TrimRight(clause, " "), p.width-4) {
				if j == 1 {
					indent += "  "
				}
				lines = append(lines, indent+part)
			}
		}
	}
	return strings.Join(lines, "\n")
}
