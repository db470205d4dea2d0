package vdcore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore/storage"
)

// Options of a new image, by the names users know.
const (
	OptBlockSize = "block-size"
	OptUUID      = "uuid"
	OptComment   = "comment"
	OptGeometry  = "geometry" // PCHS
	OptLCHS      = "lchs"
)

// Differencing is the name of the variant that has a parent.
const Differencing = "differencing"

// Making is one variant of image that a backend can make.
type Making struct {
	Name    string     // what users ask for: "dynamic", "fixed", "split2g" …
	Variant string     // what Info.Variant says of it
	Flags   ImageFlags // what Info.ImageFlags says of it
	Options []string   // it takes: OptUUID …
}

// Takes reports whether the variant has an option.
func (m Making) Takes(option string) bool { return slices.Contains(m.Options, option) }

// CreateArgs describe an image to be made: an empty one, or, with a parent, a
// differencing one.
type CreateArgs struct {
	FS   storage.FS // may write in Path's folder
	Path string     // absolute; a file there, or for another of the image's files, is an fs.ErrExist
	// Capacity in bytes; a multiple of 512 in every format but raw.
	Capacity int64
	// Variant names one of the backend's Makes; "" is the first of them, or, with a
	// parent, the differencing one.
	Variant   string
	BlockSize int64     // bytes; 0: the format's usual one
	UUID      uuid.UUID // of the new image; uuid.Nil where the format keeps none
	Comment   string    // UTF-8
	// PCHS and LCHS are the physical and the logical geometry; zero: as VirtualBox
	// leaves them.
	PCHS, LCHS Geometry
	Parent     *CreateParent
	// Progress, which may be nil, is called with the bytes that have got their space
	// and those that shall. A variant that reserves none does not call it.
	Progress func(done, total int64)
}

// CreateParent is what a child has to know of its parent.
type CreateParent struct {
	Info *Info
	Hint string // file name to store: relative to the child's folder, or absolute
}

// Choose returns the variant that is asked for, of those a backend makes. It fails
// with ErrUnsupported when there is none, or when it does not take what is
// asked.
func (a *CreateArgs) Choose(list []Making) (Making, error) {
	name := a.Variant
	switch {
	case name == "" && a.Parent != nil:
		name = Differencing
	case name == "":
		name = list[0].Name
	}
	var names []string
	for _, m := range list {
		if (m.Name == Differencing) != (a.Parent != nil) {
			continue
		}
		if m.Name == name {
			return m, a.check(m)
		}
		names = append(names, m.Name)
	}
	return Making{}, fmt.Errorf("variant %q: %w; there are: %s", name, ErrUnsupported, strings.Join(names, ", "))
}

// check refuses options that the variant would have to ignore.
func (a *CreateArgs) check(m Making) error {
	for _, o := range []struct {
		name  string
		given bool
	}{
		{OptBlockSize, a.BlockSize != 0}, {OptUUID, a.UUID != uuid.Nil}, {OptComment, a.Comment != ""},
		{OptGeometry, a.PCHS != Geometry{}}, {OptLCHS, a.LCHS != Geometry{}},
	} {
		if o.given && !m.Takes(o.name) {
			return fmt.Errorf("option %s: %w by the variant %s", o.name, ErrUnsupported, m.Name)
		}
	}
	if a.PCHS != (Geometry{}) {
		if err := a.PCHS.check("physical", 16383, 16); err != nil {
			return err
		}
	}
	if a.LCHS != (Geometry{}) {
		return a.LCHS.check("logical", 1<<32-1, 255)
	}
	return nil
}
