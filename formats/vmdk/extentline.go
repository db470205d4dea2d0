package vmdk

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vdfs/vdcore"
)

// extentLine is one line of the extent description.
type extentLine struct {
	Access  string `json:"access"`
	Sectors int64  `json:"sectors"`
	Type    string `json:"type"`
	Name    string `json:"name,omitempty"`
	Offset  int64  `json:"offset_sectors,omitempty"` // where it begins in its file
}

const (
	accessNone  = "NOACCESS"
	accessWrite = "RW"
	accessRead  = "RDONLY"

	typeFlat       = "FLAT"
	typeVMFS       = "VMFS"
	typeZero       = "ZERO"
	typeSparse     = "SPARSE"
	typeVMFSSparse = "VMFSSPARSE"
	typeSESparse   = "SESPARSE"
)

var (
	accessWords = []string{accessWrite, accessRead, accessNone}
	extentTypes = []string{typeFlat, typeVMFS, typeZero, typeSparse, typeVMFSSparse, typeSESparse}
	rawDevices  = []string{"VMFSRDM", "VMFSRAW"}
)

func (e extentLine) bytes() int64 { return e.Sectors * sector }

// flat reports whether the file holds the guest's bytes as they are.
func (e extentLine) flat() bool { return e.Type == typeFlat || e.Type == typeVMFS }

// parseExtentLine reads a line that begins with an access word; ok is false for
// any other line. Fields after the offset (partition UUID, device id) say
// nothing about the content.
func parseExtentLine(line string) (e extentLine, ok bool, err error) {
	access, rest := word(line)
	known := slices.IndexFunc(accessWords, func(w string) bool { return strings.EqualFold(w, access) })
	if known < 0 || strings.HasPrefix(rest, "=") {
		return e, false, nil
	}
	e.Access = accessWords[known]
	size, rest := word(rest)
	n, err := strconv.ParseUint(size, 10, 64)
	if err != nil || n == 0 || n > maxSectors {
		return e, false, fmt.Errorf("extent size %.30q: a number of sectors from 1 to %d is expected: %w", size, int64(maxSectors), vdcore.ErrCorrupt)
	}
	e.Sectors = int64(n)
	kind, rest := word(rest)
	e.Type = strings.ToUpper(kind)
	if err := e.checkType(); err != nil {
		return e, false, err
	}
	if e.Name, rest, err = extentName(rest); err != nil {
		return e, false, err
	}
	if err := e.place(rest); err != nil {
		return e, false, err
	}
	return e, true, nil
}

func (e extentLine) checkType() error {
	switch {
	case slices.Contains(rawDevices, e.Type):
		return fmt.Errorf("extent type %s maps a host device: %w", e.Type, vdcore.ErrUnsupported)
	case !slices.Contains(extentTypes, e.Type):
		return fmt.Errorf("unknown extent type %.30q: %w", e.Type, vdcore.ErrUnsupported)
	}
	return nil
}

// place reads the offset and checks that the fields fit together.
func (e *extentLine) place(rest string) error {
	offset, _ := word(rest)
	if e.Type == typeZero || e.Access == accessNone {
		return nil // no file is opened, whatever the line says of one
	}
	if e.Name == "" {
		return fmt.Errorf("an extent of type %s without a file name: %w", e.Type, vdcore.ErrCorrupt)
	}
	if offset == "" {
		return nil
	}
	n, err := strconv.ParseUint(offset, 10, 64)
	if err != nil || n > maxSectors {
		return fmt.Errorf("extent offset %.30q: a number of sectors up to %d is expected: %w", offset, int64(maxSectors), vdcore.ErrCorrupt)
	}
	if n != 0 && !e.flat() {
		return fmt.Errorf("extent of type %s at offset %d of its file: %w", e.Type, n, vdcore.ErrUnsupported)
	}
	e.Offset = int64(n)
	return nil
}

// extentName takes the name off the line. There is no escape for a quote; some
// writers leave the quotes out.
func extentName(rest string) (name, after string, err error) {
	quoted, ok := strings.CutPrefix(rest, `"`)
	if !ok {
		name, after = word(rest)
		return name, after, nil
	}
	name, after, ok = strings.Cut(quoted, `"`)
	if !ok {
		return "", "", fmt.Errorf("extent name %.60q without a closing quote: %w", quoted, vdcore.ErrCorrupt)
	}
	return name, strings.TrimLeft(after, " \t"), nil
}

// word splits off the first blank-separated word.
func word(s string) (first, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}
