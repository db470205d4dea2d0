package machine

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// maxBranches bounds the branches of one disk that are opened, or tried: each is a chain.
const maxBranches = 128

// ErrDisk: a machine has no disk of the name, or several and no name is given.
var ErrDisk = errors.New("which disk?")

// Only returns the disk of a name, or the machine's only one when name is "".
func (m *Machine) Only(name string) (*Disk, error) {
	var names []string
	for _, d := range m.Disks {
		names = append(names, fmt.Sprintf("%q", d.Name))
	}
	all := strings.Join(names, ", ")
	switch d := m.Disk(name); {
	case len(m.Disks) == 0:
		return nil, fmt.Errorf("%s: %w: the machine %s has none", m.File, ErrDisk, m.Name)
	case name == "" && len(m.Disks) == 1:
		return m.Disks[0], nil
	case name == "":
		return nil, fmt.Errorf("%s: %w: the machine has several; choose one with --disk: %s", m.File, ErrDisk, all)
	case d == nil:
		return nil, fmt.Errorf("%s: %w: the machine has no %q, but %s", m.File, ErrDisk, name, all)
	default:
		return d, nil
	}
}

// Path is where the disk's image lies; in an archive, below the archive's name.
func (d *Disk) Path() string { return d.image.path }

// Open opens the chain of the disk's present state, and notes which layers are its
// states in snapshots. A disk that is only in snapshots, or in an archive, is not
// written to; neither is one the machine has in use or has gone to sleep on.
func (d *Disk) Open(o vdcore.Options) (*vdcore.Chain, error) {
	if d.Err != nil {
		return nil, d.Err
	}
	if err := d.refuse(o); err != nil {
		return nil, err
	}
	c, err := d.machine.open(d.image, o)
	if err != nil {
		return nil, err
	}
	d.note(c)
	if has := c.Top().Capacity(); d.Capacity != 0 && d.Capacity != has {
		c.Warn(fmt.Sprintf("%s: the disk %s has %d bytes, not the %d the description says", d.machine.File, d.Name, has, d.Capacity))
	}
	return c, nil
}

// refuse keeps what must not change from being opened for writing.
func (d *Disk) refuse(o vdcore.Options) error {
	switch {
	case !o.Write && !o.Hold:
	case d.machine.Archive:
		return fmt.Errorf("%s: %w: a disk in an archive is not written to; unpack the archive (tar -xf), or convert the disk", d.image.path, vdcore.ErrReadOnly)
	case d.Detached:
		return fmt.Errorf("%s: %w: only snapshots have this disk", d.image.path, vdcore.ErrReadOnly)
	case d.machine.busy != "" && !o.BreakChildren:
		return fmt.Errorf("%s: %w: %s", d.image.path, vdcore.ErrInUse, d.machine.busy)
	}
	return nil
}

// open opens an image of the machine with all its parents.
func (m *Machine) open(i image, o vdcore.Options) (*vdcore.Chain, error) {
	if i.err != nil {
		return nil, i.err
	}
	o.Search = m.search
	if !m.Archive {
		return vdcore.OpenNamed(m.File, i.path, o)
	}
	host, err := storage.NewOS(m.Path)
	if err != nil {
		return nil, err
	}
	a, err := openArchive(host.Below(filepath.Dir(m.Path)), m.Path)
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	c, err := vdcore.OpenFS(a, i.path, o)
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	c.Own(host.Close)
	return c, nil
}

// is reports whether a layer is the image.
func (i image) is(l *vdcore.Layer) bool {
	if i.id != uuid.Nil && l.Info().UUID != uuid.Nil {
		return i.id == l.Info().UUID
	}
	return i.path == l.Path
}

// note adds to the layers of a chain the snapshots they are states of, and returns the
// states found.
func (d *Disk) note(c *vdcore.Chain) (found []state) {
	for _, s := range d.states {
		for _, l := range c.Layers() {
			if s.is(l) {
				l.Snapshots = append(l.Snapshots, d.machine.Snapshots[s.snapshot].Snapshot)
				found = append(found, s)
				break
			}
		}
	}
	return found
}

// Branches opens the chains that lead to the snapshots the present state, c, was not
// made from. Several snapshots on one branch share a chain, which begins at the last of
// them. What cannot be opened is a warning, and the snapshots before it are tried.
func (d *Disk) Branches(c *vdcore.Chain, o vdcore.Options) (branches []*vdcore.Chain, warnings []string) {
	o.Write, o.Hold, o.BreakChildren = false, false, false
	var reached []image
	for _, l := range c.Layers() {
		reached = append(reached, image{id: l.Info().UUID, path: l.Path})
	}
	for _, s := range slices.Backward(d.states) {
		if slices.ContainsFunc(reached, s.image.same) {
			continue
		}
		name := d.machine.Snapshots[s.snapshot].Name
		if len(branches)+len(warnings) == maxBranches {
			warnings = append(warnings, fmt.Sprintf("%s: the snapshot %q of the disk %s, and perhaps others, are not shown: more than %d branches", d.machine.File, name, d.Name, maxBranches))
			break
		}
		branch, err := d.branch(s.image, o)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("the snapshot %q of the disk %s cannot be shown: %v", name, d.Name, err))
			continue
		}
		branches = append(branches, branch)
		for _, l := range branch.Layers() {
			reached = append(reached, image{id: l.Info().UUID, path: l.Path})
		}
	}
	return branches, warnings
}

// same reports whether two names mean one image.
func (i image) same(j image) bool {
	if i.id != uuid.Nil && j.id != uuid.Nil {
		return i.id == j.id
	}
	return i.path == j.path
}

// branch opens the chain of a snapshot's image.
func (d *Disk) branch(i image, o vdcore.Options) (*vdcore.Chain, error) {
	c, err := d.machine.open(i, o)
	if err != nil {
		return nil, err
	}
	if top := c.Top().Layer(); !i.is(top) {
		err := fmt.Errorf("%s: %w: its UUID is %s, not %s", top.Path, vdcore.ErrMismatch, top.Info().UUID, i.id)
		return nil, errors.Join(err, c.Close())
	}
	d.note(c)
	return c, nil
}
