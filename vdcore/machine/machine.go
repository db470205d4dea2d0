package machine

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vbox"
)

// The kinds of machines.
const (
	VirtualBox = "virtualbox"
	VMware     = "vmware"
	OVF        = "ovf"
)

// Machine is a virtual machine as its files describe it.
type Machine struct {
	Path      string // what was named, absolute and without symbolic links
	File      string // that describes it; below Path if that is an archive or a folder
	Kind      string
	Name      string
	Disks     []*Disk
	Snapshots []Snapshot // each after the one it was made from
	Warnings  []string   // sentences the user should see
	Archive   bool       // all its files are members of Path

	search   []string
	busy     string // why its disks must not be written to; "" where nothing speaks against it
	manifest string // name of the list of digests beside File
}

// Snapshot is a state of the machine.
type Snapshot struct {
	vdcore.Snapshot
	Parent  int  // index of the one it was made from, -1 for none
	Current bool // the present state was made from it
}

// Disk is a hard disk of the machine.
type Disk struct {
	Name     string // unique in the machine
	Slot     string // where it is attached, in the machine's words
	Detached bool   // only snapshots have it; it is shown in its newest state
	Capacity int64  // bytes as the description says; 0 when it does not
	Err      error  // why there is no image to open

	machine *Machine
	image   image   // of its current state
	states  []state // of snapshots
}

// image is an image the machine refers to. Where it has an identity that decides, the
// path may still have to be looked for.
type image struct {
	id   uuid.UUID
	path string
	err  error
}

// state is the image of a disk when a snapshot was taken.
type state struct {
	snapshot int // index in Machine.Snapshots
	image
}

const (
	maxText      = 16 << 20 // bytes of a describing file
	maxDisks     = 256
	maxSnapshots = 10000
	maxStates    = 100000 // of disks in snapshots: a file is looked for for each
)

// reader reads a machine's files.
type reader struct {
	*Machine
	fs  storage.FS // File's folder and what lies below, no more
	dir string     // File's folder
}

// text reads a whole file that describes something.
func (r *reader) text(path string) ([]byte, error) {
	f, err := r.fs.Open(path, storage.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxText+1))
	if err == nil && len(b) > maxText {
		err = fmt.Errorf("%s: %w: more than %d bytes of text", path, vdcore.ErrUnsupported, maxText)
	}
	return b, err
}

// broken is what is wrong with the file itself.
func (m *Machine) broken(err error) error {
	kind := vdcore.ErrCorrupt
	if errors.Is(err, vbox.ErrDTD) {
		kind = vdcore.ErrUnsupported
	}
	return fmt.Errorf("%s: %w: %w; name one of the machine's images instead", m.File, kind, err)
}

func (m *Machine) warn(format string, args ...any) {
	m.Warnings = append(m.Warnings, fmt.Sprintf(format, args...))
}

// add adds a disk under a name no other has.
func (m *Machine) add(d *Disk) *Disk {
	d.machine = m
	base := d.Name
	for i := 2; m.Disk(d.Name) != nil; i++ {
		d.Name = fmt.Sprintf("%s-%d", base, i)
	}
	m.Disks = append(m.Disks, d)
	return d
}

// Disk returns the disk of a name, nil if there is none.
func (m *Machine) Disk(name string) *Disk {
	for _, d := range m.Disks {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// showNewest has the disks that only snapshots have in the state of the newest.
func (m *Machine) showNewest() {
	for _, d := range m.Disks {
		if !d.Detached {
			continue
		}
		newest := d.states[0]
		for _, s := range d.states[1:] { // of two of one time, the one made from the other comes last
			if !m.Snapshots[s.snapshot].Taken.Before(m.Snapshots[newest.snapshot].Taken) {
				newest = s
			}
		}
		d.image, d.Err = newest.image, newest.err
	}
}

// bound fails when there is more than anybody's machine has. It is asked before
// anything is done for each of them, since a file can have hundreds of thousands.
func (m *Machine) bound(disks, snapshots, states int) error {
	if disks > maxDisks || snapshots > maxSnapshots || states > maxStates {
		return fmt.Errorf("%s: %w: %d disks, %d snapshots, %d states of disks in them; %d, %d and %d are read",
			m.File, vdcore.ErrUnsupported, disks, snapshots, states, maxDisks, maxSnapshots, maxStates)
	}
	return nil
}

// full reports whether there is one disk too many, so that no more need be added.
func (m *Machine) full() bool { return len(m.Disks) > maxDisks }

// find makes a path of a name in the machine's files and sees that a regular file lies
// there. A name of another system, or of a folder that was moved, is looked for beside.
func (r *reader) find(name string) (string, error) {
	path := filepath.FromSlash(strings.ReplaceAll(name, "\\", "/"))
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.dir, path)
	}
	err := r.exists(path)
	if err == nil {
		return path, nil
	}
	beside := filepath.Join(r.dir, filepath.Base(path))
	if filepath.IsAbs(name) && beside != path && r.exists(beside) == nil {
		return beside, nil
	}
	if errors.Is(err, storage.ErrOutside) || errors.Is(err, storage.ErrNotRegular) {
		return "", fmt.Errorf("%s names %q: %w", r.File, name, err)
	}
	return "", fmt.Errorf("%s names %q: %w: %w", r.File, name, vdcore.ErrMissing, err)
}

func (r *reader) exists(path string) error {
	f, err := r.fs.Open(path, storage.ReadOnly)
	if err != nil {
		return err
	}
	return f.Close()
}

// stem is a file's name without folder and extension.
func stem(path string) string {
	base := filepath.Base(filepath.FromSlash(strings.ReplaceAll(path, "\\", "/")))
	return strings.TrimSuffix(base, filepath.Ext(base))
}
