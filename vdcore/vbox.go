package vdcore

import (
	"fmt"
	"io"

	"github.com/google/uuid"

	"vdfs/vdcore/storage"
	"vdfs/vdcore/vbox"
)

// mediaRegistry is a .vbox file: where each medium lies, which must be checked like
// any other name, and which was made from which. err says why the rest could not be
// read.
type mediaRegistry struct {
	*vbox.File
	path string
	err  error
}

// readRegistry reads a VirtualBox machine file.
func readRegistry(fsys storage.FS, path string) mediaRegistry {
	r := mediaRegistry{File: &vbox.File{}, path: path}
	f, err := fsys.Open(path, storage.ReadOnly)
	if err != nil {
		r.err = err
		return r
	}
	defer f.Close()
	if r.File, err = vbox.Parse(io.NewSectionReader(f, 0, vbox.MaxSize)); err != nil {
		r.err = fmt.Errorf("media registry is not readable: %w", err)
	}
	return r
}

// location is where a medium lies, "" if the file does not list it.
func (r *mediaRegistry) location(id uuid.UUID) string { return r.Media[id].Location }

// childOf returns the location of a medium other than except that was made from
// id, "" when there is none.
func (r *mediaRegistry) childOf(id, except uuid.UUID) string {
	return r.location(r.Child(id, except))
}
