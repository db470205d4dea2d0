package vdcore

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"vdfs/vdcore/storage"
)

// NewFiles are the files of an image that is being made. All are kept, or none.
type NewFiles struct {
	fs   storage.FS
	list []storage.File
}

// MakeFiles begins an image in a file system.
func MakeFiles(fs storage.FS) *NewFiles { return &NewFiles{fs: fs} }

// Add makes one more file, which must not exist.
func (n *NewFiles) Add(path string) (storage.File, error) {
	f, err := n.fs.Open(path, storage.Create)
	if err == nil {
		n.list = append(n.list, f)
	}
	return f, err
}

// Finish closes the files and makes their names durable. If that fails, or err says
// that the image is not whole, it removes them.
func (n *NewFiles) Finish(err error) error {
	var dirs []string
	for _, f := range n.list {
		err = errors.Join(err, f.Close())
		if dir := filepath.Dir(f.Path()); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err == nil {
			err = n.fs.SyncDir(dir)
		}
	}
	if err == nil {
		return nil
	}
	for _, f := range slices.Backward(n.list) {
		err = errors.Join(err, n.fs.Remove(f.Path()))
	}
	return err
}

const spaceChunk = 64 << 20 // bytes reserved between two looks at the context

// TakeSpace gives [off, off+n) of a new file, in which it reads as zeros, its space
// on the disk: reserved where the file system can, else written. told, which may be
// nil, hears of every part.
func TakeSpace(ctx context.Context, f storage.File, off, n int64, told func(n int64)) error {
	for n > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		part := min(n, spaceChunk)
		err := f.Allocate(off, part)
		if errors.Is(err, storage.ErrNoAllocate) {
			err = writeZeros(f, off, part)
		}
		if err != nil {
			return err
		}
		if told != nil {
			told(part)
		}
		off, n = off+part, n-part
	}
	return nil
}

// writeZeros also brings them to the disk: a sync of all of them at the end could
// take minutes, in which nothing is told and nothing interrupts.
func writeZeros(f storage.File, off, n int64) error {
	if err := storage.Fill(f, off, n); err != nil {
		return err
	}
	return f.DataSync()
}

// Tell turns a function that is called with what is done and what there is to do into
// one that is called with each part; nil stays nil.
func Tell(progress func(done, total int64), total int64) func(n int64) {
	if progress == nil {
		return nil
	}
	done := int64(0)
	return func(n int64) {
		done += n
		progress(done, total)
	}
}
