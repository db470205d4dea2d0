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

// mediaRegistry is what a .vbox file says: where each medium lies, as the file says, which
// must be checked like any other name. err says why the rest could not be read.
type mediaRegistry struct {
	media map[uuid.UUID]string
	err   error
}

// readRegistry reads the media of a VirtualBox machine file (root element
// VirtualBox, HardDisk elements nested as parent and child).
func readRegistry(fsys storage.FS, path string) (map[uuid.UUID]string, error) {
	f, err := fsys.Open(path, storage.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	media := map[uuid.UUID]string{}
	dec := xml.NewDecoder(io.NewSectionReader(f, 0, maxRegistry))
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return media, nil
		}
		if err != nil {
			return media, fmt.Errorf("media registry is not readable: %w", err)
		}
		switch t := tok.(type) {
		case xml.Directive:
			return nil, fmt.Errorf("media registry has a document type definition, which VirtualBox never writes: %w", ErrUnsupported)
		case xml.StartElement:
			if id, where := hardDisk(t); where != "" {
				media[id] = where
			}
		}
	}
}

// hardDisk returns the UUID and location of a HardDisk element, "" of another.
func hardDisk(e xml.StartElement) (id uuid.UUID, location string) {
	if e.Name.Local != "HardDisk" {
		return id, ""
	}
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "uuid":
			got, err := uuid.Parse(strings.Trim(a.Value, "{}"))
			if err != nil {
				return uuid.Nil, ""
			}
			id = got
		case "location":
			location = a.Value
		}
	}
	return id, location
}
