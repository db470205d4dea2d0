package vdcore

import "fmt"

// Kind says what one image knows of a range of the disk.
type Kind uint8

const (
	// Free: the image holds nothing here. Ask the parent; zeros without one.
	Free Kind = iota
	// Zero: the image says zeros. Do not ask the parent.
	Zero
	// Data: the bytes lie in a file as they are.
	Data
	// Packed: the bytes lie in a file compressed; a Decoder unpacks them.
	Packed
	// Lost: the image held something here and cannot give it back (a table entry
	// outside the file, a file cut short, a missing extent). Never zeros.
	Lost
)

var kindNames = [...]string{"free", "zero", "data", "packed", "lost"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Extent is what an image knows of the guest range [Off, Off+Len), in bytes.
type Extent struct {
	Off, Len int64
	Kind     Kind
	// File is an index into Image.Files, for Data and Packed.
	File int
	// Pos is where the range begins in that file: its bytes for Data, the
	// compressed record for Packed.
	Pos int64
	// Skip is how far Off lies inside the unpacked unit, for Packed.
	Skip int64
}

// End is the first guest offset behind the extent.
func (e Extent) End() int64 { return e.Off + e.Len }

// Clip returns the part of e inside [off, end), which must not be empty.
func (e Extent) Clip(off, end int64) Extent {
	if off > e.Off {
		e.advance(off - e.Off)
	}
	if end < e.End() {
		e.Len = end - e.Off
	}
	return e
}

func (e *Extent) advance(n int64) {
	e.Off += n
	e.Len -= n
	switch e.Kind {
	case Data:
		e.Pos += n
	case Packed:
		e.Skip += n
	}
}

// follows reports whether b continues a, so that both are one extent. Packed
// units never join: each is unpacked on its own.
func (e Extent) follows(a Extent) bool {
	if e.Kind != a.Kind || e.Off != a.End() {
		return false
	}
	switch e.Kind {
	case Data:
		return e.File == a.File && e.Pos == a.Pos+a.Len
	case Packed:
		return e.File == a.File && e.Pos == a.Pos && e.Skip == a.Skip+a.Len
	}
	return true
}

// Append adds e to list, joining it with the last extent where it continues it.
// Backends build their maps with it.
func Append(list []Extent, e Extent) []Extent {
	if e.Len <= 0 {
		return list
	}
	if n := len(list); n > 0 && e.follows(list[n-1]) {
		list[n-1].Len += e.Len
		return list
	}
	return append(list, e)
}
