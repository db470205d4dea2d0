package cli

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"vdfs/vdcore/imgops"
)

const (
	progressFrom  = 2 * time.Second        // what takes less shows none
	progressEvery = 200 * time.Millisecond // or the terminal takes more time than the work
	maxCells      = 40
	minCells      = 10
)

// progress shows a bar on a terminal for what takes long.
func progress(c *cli.Context, what string) imgops.Progress {
	if c.Bool("quiet") || !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	now := time.Now()
	return (&meter{out: os.Stderr, what: what, began: now, phase: now}).show
}

// meter draws a bar when it is told how far the work is, and at no other time: an error
// that is printed next must not be drawn over. (Libraries draw from a goroutine of their
// own, or bring a web server along.) The bar is the line above the cursor; that it cannot
// be drawn, as the terminal is gone, is no reason for the work to end.
type meter struct {
	out   *os.File
	what  string
	began time.Time

	mu    sync.Mutex // guards what follows
	drawn time.Time
	shown bool
	phase time.Time // when done was 0; there may be several, each with a total of its own
}

func (m *meter) show(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch {
	case done >= total:
		m.draw("")
		m.phase = now
	case now.Sub(m.began) >= progressFrom && now.Sub(m.drawn) >= progressEvery:
		m.drawn = now
		m.draw(m.line(done, total, now.Sub(m.phase)) + "\n")
	}
}

// draw puts text in the place of the bar there is.
func (m *meter) draw(text string) {
	if m.shown {
		text = "\x1b[1A\r\x1b[K" + text
	}
	m.shown = strings.HasSuffix(text, "\n")
	m.out.WriteString(text)
}

// line is the bar, which fits into one line. took is how long done took.
func (m *meter) line(done, total int64, took time.Duration) string {
	width, _, err := term.GetSize(int(m.out.Fd()))
	if err != nil || width == 0 { // of a new terminal, or a serial line
		width = 80
	}
	text := fmt.Sprintf("%s %s of %s, %d %%", m.what, size(done), size(total), done*100/total)
	if done > 0 && took > 0 {
		speed := float64(done) / took.Seconds()
		left := time.Duration(float64(total-done) / speed * float64(time.Second))
		text += fmt.Sprintf(", %s/s, %v left", size(int64(speed)), left.Round(time.Second))
	}
	if cells := min(width-len(text)-4, maxCells); cells >= minCells {
		full := int(float64(cells) * float64(done) / float64(total))
		text += " [" + strings.Repeat("=", full) + strings.Repeat(" ", cells-full) + "]"
	}
	return text[:min(len(text), max(width-1, 0))]
}
