package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// row is one thing that is measured of a mount.
type row struct {
	name, unit string
	less       bool // less is better
	measure    func(*session) (float64, error)
}

// session is one contender's mount of one image, in one round.
type session struct {
	*bench
	img  *image
	who  string
	m    *mounted
	took time.Duration // until the first sector was read
}

// errNotMeasured says that there is nothing to measure, and nothing to tell.
var errNotMeasured = errors.New("not measured")

var (
	rowMount = row{"time to mount", "ms", true, func(s *session) (float64, error) {
		if s.m.at == "" {
			return 0, errNotMeasured
		}
		return s.took.Seconds() * 1e3, nil
	}}
	rowFirst = row{"first read, 1 MiB at a time", "GB/s", false, func(s *session) (float64, error) {
		return sequential(s.m.disk, s.img.data)
	}}
	rowSecond = row{"second read", "GB/s", false, rowFirst.measure}
	rowRandom = row{"random 4 KiB", "kIOPS", false, func(s *session) (float64, error) {
		return random(s.m.disk, s.img.data, 0, 1)
	}}
	rowDirect = row{"random 4 KiB, O_DIRECT", "kIOPS", false, func(s *session) (float64, error) {
		return random(s.m.disk, s.img.data, unix.O_DIRECT, 1)
	}}
	rowDeep = row{"random 4 KiB, O_DIRECT, 32 deep", "kIOPS", false, func(s *session) (float64, error) {
		return random(s.m.disk, s.img.data, unix.O_DIRECT, 32)
	}}
	rowLoop = row{"through a new loop device", "GB/s", false, func(s *session) (float64, error) {
		return throughLoop(s.m.disk, s.img.data)
	}}
	rowMemory = row{"memory", "MiB", true, func(s *session) (float64, error) {
		if s.m.at == "" {
			return 0, errNotMeasured
		}
		return memoryOf(serverOf(s.m.at))
	}}
	rowCopy = row{"cp --sparse=always", "s", true, func(s *session) (float64, error) {
		return s.copySparse(s.m.disk)
	}}
	rowConvert = row{"qemu-img convert to nothing", "GB/s", false, func(s *session) (float64, error) {
		if s.who != qemuStorage {
			return 0, errNotMeasured
		}
		return s.convertToNothing(s.img)
	}}
)

// The rows of an image, in the order in which they are measured.
var (
	readRows   = []row{rowMount, rowFirst, rowSecond, rowRandom, rowDirect, rowDeep, rowLoop, rowMemory}
	sparseRows = []row{rowMount, rowCopy, rowMemory}
)

// place is where in the table a figure belongs.
type place struct{ image, row, contender string }

type results map[place][]float64

// table measures everything, interleaved, and prints it. A run that is interrupted
// prints what there is.
func (b *bench) table() error {
	images, err := b.images()
	if err != nil {
		return err
	}
	able, err := b.check(images)
	if err != nil {
		return err
	}
	b.results = results{}
	err = b.measureAll(images, able)
	b.print(images)
	b.judge(images)
	return err
}

func (b *bench) measureAll(images []*image, able map[*image][]contender) error {
	for round := range b.rounds {
		for _, img := range images {
			progress("round %d of %d: %s", round+1, b.rounds, img.name)
			if err := warm(append([]string{img.flat}, img.layers...)); err != nil {
				return err
			}
			for _, c := range able[img] {
				if err := b.measure(c, img); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// check finds out who can show what, byte for byte.
func (b *bench) check(images []*image) (map[*image][]contender, error) {
	able := map[*image][]contender{}
	for _, img := range images {
		progress("checking %s", img.name)
		for _, c := range contenders {
			if c.tool != "" && b.tools[c.tool] == nil {
				continue
			}
			err := b.ctx.Err()
			if err == nil {
				err = b.checkOne(c, img)
			}
			switch {
			case err == nil:
				able[img] = append(able[img], c)
			case c.tool == "" && errors.Is(err, errWrong), b.ctx.Err() != nil:
				return nil, fmt.Errorf("%s, %s: %w", c.name, img.name, err)
			case !errors.Is(err, errCannot):
				b.note("%s, %s: %v", c.name, img.name, err)
			}
		}
	}
	return able, nil
}

func (b *bench) checkOne(c contender, img *image) (err error) {
	m, err := c.mount(b, img)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	return sameAs(m.disk, img.flat)
}

// measure is one contender's part of a round. What it cannot do is noted, not
// fatal, so that the others get their figures.
func (b *bench) measure(c contender, img *image) error {
	if err := touchMemory(2 * b.data); err != nil {
		return err
	}
	s := &session{bench: b, img: img, who: c.name}
	began := time.Now()
	var err error
	if s.m, err = c.mount(b, img); err == nil {
		err = readFirst(s.m.disk)
		s.took = time.Since(began)
	}
	if err != nil {
		b.note("%s, %s: %v", c.name, img.name, err)
	}
	if s.m == nil {
		return nil
	}
	defer func() {
		if err := s.m.close(); err != nil {
			b.note("%s, %s: %v", c.name, img.name, err)
		}
	}()
	for _, r := range img.rows {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		v, err := r.measure(s)
		switch at := (place{img.name, r.name, c.name}); {
		case err == nil:
			b.results[at] = append(b.results[at], v)
		case !errors.Is(err, errNotMeasured):
			b.note("%s, %s, %s: %v", c.name, img.name, r.name, err)
		}
	}
	return nil
}

// readFirst reads the first sectors: a mount is there when it can be read.
func readFirst(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(make([]byte, 4096), 0)
	return err
}

const firstColumn, column = "%-42s", " %14s"

// print shows the medians, image by image.
func (b *bench) print(images []*image) {
	for _, img := range images {
		fmt.Printf("\n"+firstColumn, img.name)
		for _, c := range contenders {
			fmt.Printf(column, c.name)
		}
		fmt.Println()
		for _, r := range img.rows {
			line := fmt.Sprintf(firstColumn, "  "+r.name+", "+r.unit)
			for _, c := range contenders {
				line += fmt.Sprintf(column, b.cell(img, r, c))
			}
			fmt.Println(strings.TrimRight(line, " "))
		}
	}
	fmt.Println(`
First read: of a new mount, with the image in the page cache. O_DIRECT reads of the raw file go to the
machine's disk. Memory is what the serving process has resident after all reads, without the page cache.`)
	for _, n := range b.notes {
		fmt.Println("-", n)
	}
}

func (b *bench) cell(img *image, r row, c contender) string {
	if c.tool != "" && b.tools[c.tool] == nil {
		return "not installed"
	}
	v := b.results[place{img.name, r.name, c.name}]
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g", median(v))
}
