package vdcore

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore/storage"
)

// maxRegistry bounds the size of a .vbox file that is read; VirtualBox's own are
// a few kilobytes, and longer with many snapshots.
const maxRegistry = 1 << 20

// mediaRegistry is what a .vbox file says: where each medium lies, which must be
// checked like any other name, and which was made from which. err says why the
// rest could not be read.
type mediaRegistry struct {
	path     string
	media    map[uuid.UUID]string    // locations
	parents  map[uuid.UUID]uuid.UUID // of the differencing ones
	attached []uuid.UUID             // to the machine as it is now, not to a snapshot
	saved    bool                    // the machine was put to sleep
	err      error
}

// childOf returns the location of a medium other than except that was made from
// id, "" when there is none.
func (r *mediaRegistry) childOf(id, except uuid.UUID) string {
	for child, parent := range r.parents {
		if parent == id && child != except {
			return r.media[child]
		}
	}
	return ""
}

// readRegistry reads a VirtualBox machine file: root element VirtualBox, HardDisk
// elements nested as parent and child, Image elements where media are attached.
func readRegistry(fsys storage.FS, path string) mediaRegistry {
	r := mediaRegistry{path: path, media: map[uuid.UUID]string{}, parents: map[uuid.UUID]uuid.UUID{}}
	f, err := fsys.Open(path, storage.ReadOnly)
	if err != nil {
		r.err = err
		return r
	}
	defer f.Close()
	if err := r.parse(xml.NewDecoder(io.NewSectionReader(f, 0, maxRegistry))); err != nil {
		r.err = fmt.Errorf("media registry is not readable: %w", err)
	}
	return r
}

// parse walks the elements.
func (r *mediaRegistry) parse(dec *xml.Decoder) error {
	var open []xml.StartElement // those the present one lies in
	snapshots := 0              // of them
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.Directive:
			clear(r.media)
			return fmt.Errorf("it has a document type definition, which VirtualBox never writes: %w", ErrUnsupported)
		case xml.EndElement:
			if open[len(open)-1].Name.Local == "Snapshot" {
				snapshots--
			}
			open = open[:len(open)-1]
		case xml.StartElement:
			r.element(t, open, snapshots > 0)
			open = append(open, t.Copy())
			if t.Name.Local == "Snapshot" {
				snapshots++
			}
		}
	}
}

// element takes note of one element inside those of open.
func (r *mediaRegistry) element(e xml.StartElement, open []xml.StartElement, snapshot bool) {
	switch e.Name.Local {
	case "HardDisk":
		id, where := hardDisk(e)
		if where == "" {
			return
		}
		r.media[id] = where
		if len(open) > 0 {
			if parent, _ := hardDisk(open[len(open)-1]); parent != uuid.Nil {
				r.parents[id] = parent
			}
		}
	case "Image":
		if id := attributeUUID(e); id != uuid.Nil && !snapshot {
			r.attached = append(r.attached, id)
		}
	case "Machine":
		r.saved = r.saved || attribute(e, "stateFile") != ""
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// attributeUUID is the attribute uuid, in braces or not; uuid.Nil when there is
// none.
func attributeUUID(e xml.StartElement) uuid.UUID {
	id, err := uuid.Parse(strings.Trim(attribute(e, "uuid"), "{}"))
	if err != nil {
		return uuid.Nil
	}
	return id
}

// hardDisk returns the UUID and location of a HardDisk element, nothing of
// another.
func hardDisk(e xml.StartElement) (id uuid.UUID, location string) {
	if e.Name.Local != "HardDisk" || attributeUUID(e) == uuid.Nil {
		return uuid.Nil, ""
	}
	return attributeUUID(e), attribute(e, "location")
}
