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
// a few kilobytes.
const maxRegistry = 8 << 20

// registryLocation looks a medium up in a VirtualBox machine file (root element
// VirtualBox, HardDisk elements nested as parent and child). The location is what
// the file says and must be checked like any other name. "" when not listed.
func registryLocation(fsys storage.FS, path string, id uuid.UUID) (string, error) {
	f, err := fsys.Open(path, storage.ReadOnly)
	if err != nil {
		return "", err
	}
	defer f.Close()
	dec := xml.NewDecoder(io.NewSectionReader(f, 0, maxRegistry))
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("media registry is not readable: %w", err)
		}
		switch t := tok.(type) {
		case xml.Directive:
			return "", fmt.Errorf("media registry has a document type definition, which VirtualBox never writes: %w", ErrUnsupported)
		case xml.StartElement:
			if where, ok := hardDisk(t, id); ok {
				return where, nil
			}
		}
	}
}

// hardDisk returns the location of a HardDisk element with the given UUID.
func hardDisk(e xml.StartElement, id uuid.UUID) (location string, ok bool) {
	if e.Name.Local != "HardDisk" {
		return "", false
	}
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "uuid":
			got, err := uuid.Parse(strings.Trim(a.Value, "{}"))
			ok = err == nil && got == id
		case "location":
			location = a.Value
		}
	}
	return location, ok && location != ""
}
