package cli

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"vdfs/vdcore/imgops"
)

const (
	progressFrom  = 2 * time.Second        // what takes less shows none
	progressEvery = 200 * time.Millisecond // or the terminal takes more time than the work
)

// progress shows a bar on a terminal for what takes long.
func progress(c *cli.Context, what string) imgops.Progress {
	if c.Bool("quiet") || !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	return (&meter{out: os.Stderr, what: what, began: time.Now()}).show
}

// meter draws a bar when it is told how far the work is, and at no other time: what else
// is printed must not be drawn over.
type meter struct {
	out   *os.File
	what  string
	began time.Time

	mu    sync.Mutex // guards what follows
	drawn time.Time
	draw  chan any
	bars  *mpb.Progress
	bar   *mpb.Bar // nil before the first time, and when it is full
}

func (m *meter) show(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch {
	case done >= total && m.bar != nil:
		m.bar.SetTotal(total, true)
		m.bars.Wait() // it is gone from the terminal then
		m.bar = nil
		return
	case done >= total || now.Sub(m.began) < progressFrom || now.Sub(m.drawn) < progressEvery:
		return
	case m.bar == nil:
		m.begin(total)
	}
	m.drawn = now
	m.bar.SetTotal(total, false)
	m.bar.SetCurrent(done)
	select {
	case m.draw <- now:
	default: // the terminal is slower than that, or gone
	}
}

func (m *meter) begin(total int64) {
	m.draw = make(chan any, 1)
	m.bars = mpb.New(mpb.WithOutput(m.out), mpb.WithManualRefresh(m.draw))
	m.bar = m.bars.AddBar(total, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(m.what+" "), decor.CountersKibiByte("% .1f / % .1f"), decor.Percentage(decor.WCSyncSpace)),
		mpb.AppendDecorators(decor.NewAverageSpeed(decor.SizeB1024(0), "% .1f", m.began), decor.Any(m.left)))
}

// left is how long the rest takes at the speed so far.
func (m *meter) left(s decor.Statistics) string {
	if s.Current <= 0 {
		return ""
	}
	rest := float64(time.Since(m.began)) / float64(s.Current) * float64(s.Total-s.Current)
	return fmt.Sprintf(", %v left", time.Duration(rest).Round(time.Second))
}
