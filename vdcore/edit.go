package vdcore

import (
	"fmt"
	"path/filepath"

	"github.com/google/uuid"

	"vdfs/vdcore/storage"
)

// Edit is what to change of what an image says of itself; nil stays as it is.
type Edit struct {
	Comment                                  *string
	UUID, ModUUID, ParentUUID, ParentModUUID *uuid.UUID
	ParentFile                               *string // as stored: relative to the image's folder, or absolute
	PCHS, LCHS                               *Geometry
}

// Editor is an image of which an Edit can be made.
type Editor interface {
	// Edit makes the change, durably and in one step: a crash leaves what was or what
	// shall be, and the same Edit goes on from either. fsys may write in the image's
	// folder. What the image has no place for is an ErrUnsupported, and then nothing
	// was changed. The image is only good for being closed afterwards.
	Edit(fsys storage.FS, e Edit) error
}

// Renamer is an image whose files name each other.
type Renamer interface {
	// Rename has the file the image was opened by at another path, in which its other
	// files have other names (by what the image calls them now). If there are any, the
	// old file stays, and they must be there under their new names before; if not, it
	// is moved. A crash leaves nothing at the new path, or all of it.
	Rename(fsys storage.FS, to string, names map[string]string) error
}

// Edit changes what the topmost image says of itself. The chain was opened with
// Options.Hold, and is only good for being closed afterwards.
func (c *Chain) Edit(e Edit) error {
	top := c.layers[len(c.layers)-1]
	ed, ok := top.Image.(Editor)
	if !ok {
		return fmt.Errorf("%s: %w: a %s image says nothing of itself that could be set", top.Path, ErrUnsupported, top.Info().Format)
	}
	err := e.check(top.Info())
	if err == nil {
		err = ed.Edit(c.fs.Below(filepath.Dir(top.Path)), e)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", top.Path, err)
	}
	return nil
}

// check refuses what is right in no format.
func (e Edit) check(i *Info) error {
	ids := []struct {
		name string
		id   *uuid.UUID
	}{{"UUID", e.UUID}, {"modification UUID", e.ModUUID}, {"parent's UUID", e.ParentUUID}, {"parent's modification UUID", e.ParentModUUID}}
	for _, x := range ids {
		if x.id != nil && *x.id == uuid.Nil {
			return fmt.Errorf("the %s cannot be null: %w", x.name, ErrUnsupported)
		}
	}
	if i.Parent == nil && e.Reparents() {
		return fmt.Errorf("it has no parent, and with one it would be another disk: %w", ErrUnsupported)
	}
	if e.PCHS != nil {
		if err := e.PCHS.check("physical", 16383, 16); err != nil {
			return err
		}
	}
	if e.LCHS != nil {
		return e.LCHS.check("logical", 1<<32-1, 255)
	}
	return nil
}

// Reparents reports whether something of the parent changes.
func (e Edit) Reparents() bool {
	return e.ParentUUID != nil || e.ParentModUUID != nil || e.ParentFile != nil
}

func (g Geometry) check(kind string, cylinders, heads uint32) error {
	const sectors = 63
	if g.Cylinders == 0 || g.Cylinders > cylinders || g.Heads == 0 || g.Heads > heads || g.Sectors == 0 || g.Sectors > sectors {
		return fmt.Errorf("%s geometry %d/%d/%d: 1/1/1 to %d/%d/%d is possible: %w",
			kind, g.Cylinders, g.Heads, g.Sectors, cylinders, heads, sectors, ErrUnsupported)
	}
	return nil
}
