package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	b := &bench{}
	flag.IntVar(&b.rounds, "rounds", 5, "rounds; medians are taken over them")
	size := flag.Int64("size", 1536, "MiB of random data in the images")
	only := flag.String("only", "", "one part: table, deep, empty, write, convert or compact")
	via := flag.String("via", "", "command that runs the peers, as in: chroot DIR")
	flag.StringVar(&b.dir, "dir", "", "where the images go (default: a temporary folder)")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench [options] VDFS")
		os.Exit(1)
	}
	b.data, b.via = *size<<20, strings.Fields(*via)
	if err := run(b, flag.Arg(0), *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	ctx       context.Context // ends the run between two measurements
	vdfs, dir string
	via       []string            // what the peers' command lines begin with
	tools     map[string][]string // how each of the installed peers is run
	rounds    int
	data      int64 // bytes of random data in the images
	results   results
	notes     []string // what could not be measured, and why
}

func run(b *bench, vdfs, only string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	b.ctx = ctx
	if err := b.workIn(); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	var err error
	if b.vdfs, err = filepath.Abs(vdfs); err != nil {
		return err
	}
	if b.findTools(); b.tools["qemu-img"] == nil {
		return errors.New("qemu-img is not installed: it makes the images")
	}
	b.printMachine()
	for _, part := range []struct {
		name string
		run  func() error
	}{{"table", b.table}, {"deep", b.deepVDI}, {"empty", b.emptyDisks}, {"write", b.writing}, {"convert", b.converting}, {"compact", b.compacting}} {
		if only != "" && only != part.name {
			continue
		}
		if err := b.inFolder(part.name, part.run); err != nil {
			return err
		}
	}
	return nil
}

// inFolder runs a part in a folder of its own, so that its images are gone when the
// next one wants the room.
func (b *bench) inFolder(name string, part func() error) error {
	above := b.dir
	b.dir = filepath.Join(above, name)
	defer func() { b.dir = above }()
	defer os.RemoveAll(b.dir)
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return err
	}
	return part()
}

// workIn makes a folder of its own for the run, which is removed afterwards. Mounts
// are found by path, so it is one without symbolic links.
func (b *bench) workIn() error {
	if b.dir != "" {
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			return err
		}
	}
	d, err := os.MkdirTemp(b.dir, "vdfs-bench-")
	if err != nil {
		return err
	}
	if b.dir, err = filepath.EvalSymlinks(d); err != nil {
		return err
	}
	b.dir, err = filepath.Abs(b.dir)
	return err
}

// contest is two ways to do one thing; each returns how fast it was (more is
// better) for one round.
type contest struct {
	name, unit string
	ours, peer func() (float64, error)
}

// contestHeader begins a list of contests.
func contestHeader(title string) {
	fmt.Printf("\n%-46s %14s %14s %8s\n", title, "vdfs", "peer", "ratio")
}

// row runs a contest, interleaved, and prints its medians and their ratio.
func (b *bench) row(c contest) error {
	var ours, peers []float64
	for range b.rounds {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		v, err := c.ours()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		ours = append(ours, v)
		if v, err = c.peer(); err != nil {
			return fmt.Errorf("%s, peer: %w", c.name, err)
		}
		peers = append(peers, v)
	}
	fmt.Printf("%-46s %9.4g %-4s %9.4g %-4s %7.2fx\n", c.name, median(ours), c.unit, median(peers), c.unit, median(ours)/median(peers))
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// perSecond times fn and returns how often it would fit into a second.
func perSecond(fn func() error) func() (float64, error) {
	return func() (float64, error) {
		began := time.Now()
		err := fn()
		return 1 / time.Since(began).Seconds(), err
	}
}

// shell runs a command and reports its output when it fails.
func shell(name string, args ...string) error {
	return output(exec.Command(name, args...))
}

func output(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// progress says on stderr what is going on: a run takes many minutes.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// note keeps, once, what the reader of the table has to know.
func (b *bench) note(format string, args ...any) {
	text, _, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	if !slices.Contains(b.notes, text) {
		progress("%s", text)
		b.notes = append(b.notes, text)
	}
}
