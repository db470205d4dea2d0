package vbox

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
)

// MaxSize bounds what is read of a file, bytes. A machine without snapshots has a few
// kilobytes, and each snapshot adds as much.
const MaxSize = 16 << 20

// ErrDTD: the file has a document type definition.
var ErrDTD = errors.New("it has a document type definition, which nobody who describes a machine writes")

// File is what a machine file says.
type File struct {
	Name            string // of the machine
	SnapshotFolder  string // as stored
	Saved           bool   // the machine was put to sleep
	CurrentSnapshot uuid.UUID
	Media           map[uuid.UUID]Medium // hard disks
	Attached        []Attachment         // to the machine as it is now
	Snapshots       []Snapshot           // each after the one it was made from

	roots map[uuid.UUID]uuid.UUID // what Root has found
}

// Medium is a registered hard disk.
type Medium struct {
	Location string    // as stored: relative to the machine's folder, or absolute
	Parent   uuid.UUID // uuid.Nil for a base
	// Encrypted: what the image holds are not the disk's bytes. It is said of the base,
	// and goes for all made from it.
	Encrypted bool
}

// Attachment is a hard disk in a controller's slot.
type Attachment struct {
	Controller, Port, Device string
	Image                    uuid.UUID
}

// Snapshot is a state of the machine.
type Snapshot struct {
	UUID              uuid.UUID
	Name, Description string
	Taken             time.Time // zero when the file does not say
	Parent            int       // index in File.Snapshots, -1 for the first
	Attached          []Attachment
}

// Parse reads a machine file. After an error the File holds what came before it.
func Parse(r io.Reader) (*File, error) {
	p := parser{file: &File{Media: map[uuid.UUID]Medium{}}}
	dec := xml.NewDecoder(io.LimitReader(r, MaxSize))
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return p.file, nil
		}
		if err != nil {
			return p.file, err
		}
		switch t := tok.(type) {
		case xml.Directive:
			return &File{Media: map[uuid.UUID]Medium{}}, ErrDTD
		case xml.StartElement:
			p.start(t.Copy())
		case xml.CharData:
			p.text(t)
		case xml.EndElement:
			p.end()
		}
	}
}

// parser keeps where in the file it is.
type parser struct {
	file *File
	open []xml.StartElement // elements that have begun and not ended
	in   []int              // of them, the snapshots, by index
	said strings.Builder    // by the description that is open: it comes in pieces
}

func (p *parser) start(e xml.StartElement) {
	switch e.Name.Local {
	case "Machine":
		p.machine(e)
	case "HardDisk":
		p.hardDisk(e)
	case "Snapshot":
		p.snapshot(e)
	case "Image":
		p.image(e)
	case "Property":
		p.property(e)
	case "Description":
		p.said.Reset()
	}
	p.open = append(p.open, e)
}

func (p *parser) end() {
	switch {
	case p.up(0).Name.Local == "Snapshot":
		p.in = p.in[:len(p.in)-1]
	case p.describes():
		p.file.Snapshots[p.in[len(p.in)-1]].Description = p.said.String()
	}
	p.open = p.open[:len(p.open)-1]
}

// up is the element n levels above the innermost open one, an empty one where there
// is none.
func (p *parser) up(n int) xml.StartElement {
	if n >= len(p.open) {
		return xml.StartElement{}
	}
	return p.open[len(p.open)-1-n]
}

func (p *parser) machine(e xml.StartElement) {
	f := p.file
	f.Name, f.SnapshotFolder = attribute(e, "name"), attribute(e, "snapshotFolder")
	f.CurrentSnapshot = id(e, "currentSnapshot")
	f.Saved = f.Saved || attribute(e, "stateFile") != ""
}

func (p *parser) hardDisk(e xml.StartElement) {
	own, location := id(e, "uuid"), attribute(e, "location")
	if own == uuid.Nil || location == "" {
		return
	}
	m := Medium{Location: location}
	if up := p.up(0); up.Name.Local == "HardDisk" && attribute(up, "location") != "" {
		m.Parent = id(up, "uuid")
	}
	p.file.Media[own] = m
}

// property takes note of a medium's encryption, by the name of its keys' store.
func (p *parser) property(e xml.StartElement) {
	own := id(p.up(0), "uuid")
	if m, ok := p.file.Media[own]; ok && p.up(0).Name.Local == "HardDisk" && strings.HasPrefix(attribute(e, "name"), "CRYPT/") {
		m.Encrypted = true
		p.file.Media[own] = m
	}
}

func (p *parser) snapshot(e xml.StartElement) {
	s := Snapshot{UUID: id(e, "uuid"), Name: attribute(e, "name"), Parent: -1}
	s.Taken, _ = time.Parse(time.RFC3339, attribute(e, "timeStamp")) // zero when it is no time
	if n := len(p.in); n > 0 {
		s.Parent = p.in[n-1]
	}
	p.in = append(p.in, len(p.file.Snapshots))
	p.file.Snapshots = append(p.file.Snapshots, s)
}

// text takes the description of a snapshot: VirtualBox puts it in an element.
func (p *parser) text(t xml.CharData) {
	if p.describes() {
		p.said.Write(t)
	}
}

func (p *parser) describes() bool {
	return p.up(0).Name.Local == "Description" && p.up(1).Name.Local == "Snapshot"
}

// image takes an attached hard disk; other devices say their type.
func (p *parser) image(e xml.StartElement) {
	device, controller := p.up(0), p.up(1)
	if kind := attribute(device, "type"); kind != "" && kind != "HardDisk" || id(e, "uuid") == uuid.Nil {
		return
	}
	a := Attachment{attribute(controller, "name"), attribute(device, "port"), attribute(device, "device"), id(e, "uuid")}
	if n := len(p.in); n > 0 {
		s := &p.file.Snapshots[p.in[n-1]]
		s.Attached = append(s.Attached, a)
		return
	}
	p.file.Attached = append(p.file.Attached, a)
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// id is a UUID, in braces or not; uuid.Nil when there is none.
func id(e xml.StartElement, name string) uuid.UUID {
	u, err := uuid.Parse(strings.Trim(attribute(e, name), "{}"))
	if err != nil {
		return uuid.Nil
	}
	return u
}

// Child returns a medium other than except that was made from id, uuid.Nil when there
// is none.
func (f *File) Child(id, except uuid.UUID) uuid.UUID {
	for child, m := range f.Media {
		if m.Parent == id && child != except {
			return child
		}
	}
	return uuid.Nil
}

// IsAttached reports whether the machine has a medium now, not in a snapshot.
func (f *File) IsAttached(id uuid.UUID) bool {
	for _, a := range f.Attached {
		if a.Image == id {
			return true
		}
	}
	return false
}

// Root is the base a medium was made from, as far as the file tells. What it has found
// it remembers, so that one way through a long chain is enough for all media in it; only
// one goroutine at a time may ask.
func (f *File) Root(id uuid.UUID) uuid.UUID {
	var way []uuid.UUID
	for range f.Media { // a file may claim a circle
		if root, known := f.roots[id]; known {
			id = root
			break
		}
		m, ok := f.Media[id]
		if !ok || m.Parent == uuid.Nil {
			break
		}
		way = append(way, id)
		id = m.Parent
	}
	if f.roots == nil {
		f.roots = map[uuid.UUID]uuid.UUID{}
	}
	for _, w := range way {
		f.roots[w] = id
	}
	return id
}
