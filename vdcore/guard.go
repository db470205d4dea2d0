package vdcore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"vdfs/vdcore/storage"
)

// Other programs are kept out by QEMU's protocol: a shared lock on byte 100+p of a
// file says "I do p", one on byte 200+p "nobody else may do p", and before p is done
// both are asked for. QEMU, and other vdfs, heed it; VirtualBox heeds nothing, so
// who has a file open for writing is looked up as well.
const (
	doing   = 100
	barring = 200

	toRead   = 0 // p: read consistently
	toWrite  = 1
	toResize = 3
)

var (
	readerTakes  = []int64{doing + toRead, barring + toWrite, barring + toResize}
	readerShuns  = []int64{barring + toRead, doing + toWrite, doing + toResize}
	writerTakes  = append([]int64{doing + toWrite, doing + toResize}, readerTakes...)
	writerShuns  = append([]int64{barring + toWrite, barring + toResize}, readerShuns...)
	errNotLocked = "%s: its file system has no locks; make sure that nothing else uses it"
)

// guard locks a file until held is released, alone as one who writes.
func (c *Chain) guard(f storage.File, alone bool, held *guards) error {
	take, shun := readerTakes, readerShuns
	if alone {
		take, shun = writerTakes, writerShuns
	}
	release, err := f.Guard(take, shun)
	switch {
	case errors.Is(err, storage.ErrLocked):
		return fmt.Errorf("%s: %w%s", f.Path(), ErrInUse, c.by(f))
	case errors.Is(err, storage.ErrNoLocks):
		if alone {
			c.warn(errNotLocked, f.Path())
		}
		return nil
	case err != nil:
		return err
	}
	*held = append(*held, release)
	return nil
}

// guards are the locks of an image's files, each as what gives it up.
type guards []func()

func (g guards) release() {
	for _, release := range g {
		release()
	}
}

// by names who has a file open, for a message.
func (c *Chain) by(f storage.File) string {
	var names []string
	for _, u := range c.fs.Users([]storage.File{f}, false) {
		if name := u.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return " by another process (root sees which)"
	}
	return " by " + strings.Join(names, ", ")
}

// maxWatched bounds the files of one image that are looked for among the open
// files of all processes.
const maxWatched = 16

// lookForUsers begins to look for who has the topmost image open, which can take as long
// as opening dozens of layers does. What it returns waits for the answer.
func (c *Chain) lookForUsers(top *Layer) func() []storage.User {
	files := top.Image.Files()
	found := make(chan []storage.User, 1)
	go func() { found <- c.fs.Users(files[:min(len(files), maxWatched)], true) }()
	return sync.OnceValue(func() []storage.User { return <-found })
}

// lookForWriters finds programs that write to the topmost image without locking
// it, a running virtual machine above all.
func (c *Chain) lookForWriters() error {
	for _, u := range c.users() {
		switch {
		case !u.Writing:
		case c.opts.Write || c.opts.Hold:
			return fmt.Errorf("%s: %w: %s has it open for writing", u.File.Path(), ErrInUse, u)
		default:
			c.warn("%s: %s has it open for writing; what is read here may be half old and half new", u.File.Path(), u)
		}
	}
	return nil
}
