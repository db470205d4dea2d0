package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds; medians are taken over them")
	size := flag.Int64("size", 1536, "MiB of random data in the images")
	only := flag.String("only", "", "one part: requests, deep, empty or write")
	dir := flag.String("dir", "", "where the images go (default: a temporary folder)")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench [options] VDFS")
		os.Exit(1)
	}
	if err := run(flag.Arg(0), *dir, *only, *rounds, *size<<20); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(vdfs, dir, only string, rounds int, data int64) error {
	if dir == "" {
		d, err := os.MkdirTemp("", "vdfs-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(d)
		dir = d
	}
	vdfs, err := filepath.Abs(vdfs)
	if err != nil {
		return err
	}
	b := &bench{vdfs: vdfs, dir: dir, rounds: rounds, data: data}
	fmt.Printf("vdfs %s; qemu %s; kernel %s; %d rounds, medians\n\n", version(vdfs, "version"), version("qemu-img", "--version"), version("uname", "-r"), rounds)
	fmt.Printf("%-46s %14s %14s %8s\n", "", "vdfs", "peer", "ratio")
	for _, part := range []struct {
		name string
		run  func() error
	}{{"requests", b.requestPath}, {"deep", b.deepVDI}, {"empty", b.emptyDisks}, {"write", b.writing}} {
		if only != "" && only != part.name {
			continue
		}
		if err := part.run(); err != nil {
			return err
		}
	}
	return nil
}

type bench struct {
	vdfs, dir string
	rounds    int
	data      int64 // bytes of random data in the images
}

func version(name string, arg string) string {
	out, err := exec.Command(name, arg).Output()
	if err != nil {
		return "none"
	}
	words := strings.Fields(strings.SplitN(string(out), "\n", 2)[0])
	for _, w := range words {
		w = strings.Trim(w, "(),")
		if w != name && !strings.HasSuffix(name, w) && strings.ContainsAny(w, "0123456789") || strings.HasPrefix(w, "devel") {
			return w
		}
	}
	return words[len(words)-1]
}

// contest is two ways to do one thing; each returns how fast it was (more is
// better) for one round.
type contest struct {
	name, unit string
	ours, peer func() (float64, error)
}

// row runs a contest, interleaved, and prints its medians and their ratio.
func (b *bench) row(c contest) error {
	var ours, peers []float64
	for range b.rounds {
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
	slices.Sort(v)
	return v[len(v)/2]
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
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
