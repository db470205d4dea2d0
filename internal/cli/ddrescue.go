package cli

import (
	"fmt"
	"io"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

// mapfile writes a map file of GNU ddrescue: ranges of the disk in order, each with a
// status, joined where it stays the same.
type mapfile struct {
	w             io.Writer
	start, length int64
	status        byte
}

// The statuses that are used here, in ddrescue's letters.
const (
	statusFinished = '+'
	statusUntried  = '?'
	statusBad      = '-'
)

// newMapfile writes the head; what says in a line what the statuses stand for.
func newMapfile(w io.Writer, what string) *mapfile {
	fmt.Fprintf(w, "# Mapfile. Created by vdfs: %s\n# current_pos  current_status  current_pass\n0x00000000     ?               1\n#      pos        size  status\n", what)
	return &mapfile{w: w}
}

// add is the next range; empty ones are left out.
func (m *mapfile) add(start, length int64, status byte) error {
	if length <= 0 {
		return nil
	}
	if m.length > 0 && m.status == status {
		m.length += length
		return nil
	}
	err := m.end()
	m.start, m.length, m.status = start, length, status
	return err
}

// end writes the last range.
func (m *mapfile) end() error {
	if m.length == 0 {
		return nil
	}
	_, err := fmt.Fprintf(m.w, "0x%08X  0x%08X  %c\n", m.start, m.length, m.status)
	return err
}

// printChanged prints a map file of all of the disk: + what changed and ? what did not.
func printChanged(w io.Writer, ranges []imgops.Range, capacity int64) error {
	m := newMapfile(w, "+ is what changed")
	at := int64(0)
	for _, r := range append(ranges, imgops.Range{Start: capacity}) {
		if err := m.add(at, r.Start-at, statusUntried); err != nil {
			return err
		}
		if err := m.add(r.Start, r.Length, statusFinished); err != nil {
			return err
		}
		at = r.Start + r.Length
	}
	return m.end()
}

// printReadable prints a map file of all of the disk: + what can be read, be it zeros,
// and - what is lost.
func printReadable(w io.Writer, d *vdcore.Disk) error {
	m := newMapfile(w, "+ can be read, - is lost")
	var failed error
	err := d.Each(0, d.Capacity(), func(f vdcore.Flat) bool {
		status := byte(statusFinished)
		if f.Kind == vdcore.Lost {
			status = statusBad
		}
		failed = m.add(f.Off, f.Len, status)
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return m.end()
}
