package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"vdfs/fs"
	"vdfs/internal/shell"
	"vdfs/vdcore"
	"vdfs/vdcore/machine"
)

func diskFlag() cli.Flag {
	return &cli.StringFlag{Name: "disk", Usage: "of a machine with several disks, take the one called `NAME`"}
}

// isMachine reports whether an argument names a machine: a file that describes one, an
// archive, or a folder. With --format it is an image, whatever it is called.
func isMachine(path string, o vdcore.Options) bool { return o.Format == "" && machine.Is(path) }

// wholeMachine reports whether an argument names a machine, and --disk none of its disks.
func wholeMachine(c *cli.Context, path string) bool {
	return c.String("disk") == "" && isMachine(path, vdcore.Options{Format: c.String("format")})
}

// refuseMachine keeps a machine's description from being taken for a plain disk, by a
// command that changes or removes the image it is given.
func refuseMachine(c *cli.Context, o vdcore.Options, paths ...string) error {
	for _, p := range paths {
		if isMachine(p, o) {
			return usageError{fmt.Sprintf("%s describes a machine, or is a folder: %s takes an image; vdfs info %s lists those of its disks", p, c.Command.Name, shell.Quote(p))}
		}
	}
	return nil
}

// loadMachine reads what describes a machine, and prints what the user should know.
func loadMachine(path string, o vdcore.Options) (*machine.Machine, error) {
	m, err := machine.Load(path, o.Search)
	if err != nil {
		return nil, err
	}
	warnAll(m.Warnings)
	return m, nil
}

// openNamed opens what an argument names: an image, or a machine's disk, the one of
// --disk or the only one.
func openNamed(c *cli.Context, path string, o vdcore.Options) (*vdcore.Chain, error) {
	disk := c.String("disk")
	if err := checkDisk(disk, c.Args().Slice(), o); err != nil {
		return nil, err
	}
	if !isMachine(path, o) {
		return vdcore.Open(path, o)
	}
	m, err := loadMachine(path, o)
	if err != nil {
		return nil, err
	}
	d, err := onlyDisk(m, disk)
	if err != nil {
		return nil, err
	}
	return d.Open(o)
}

// checkDisk refuses --disk where no argument has disks to choose from.
func checkDisk(disk string, args []string, o vdcore.Options) error {
	if disk == "" || slices.ContainsFunc(args, func(a string) bool { return isMachine(a, o) }) {
		return nil
	}
	return usageError{"--disk chooses among the disks of a machine, and none is named"}
}

func onlyDisk(m *machine.Machine, name string) (*machine.Disk, error) {
	d, err := m.Only(name)
	if errors.Is(err, machine.ErrDisk) {
		err = usageError{err.Error()}
	}
	return d, err
}

// named is one disk a mount was asked for.
type named struct {
	image string
	disk  *machine.Disk // nil for an image
	alone bool          // of a machine's disks, no other is asked for
}

// expand lists the disks that the arguments of a mount name. One machine lends its own
// name to the mount table.
func (r *mountRequest) expand() (list []named, err error) {
	if err := checkDisk(r.disk, r.images, r.open); err != nil {
		return nil, err
	}
	for _, image := range r.images {
		if !isMachine(image, r.open) {
			list = append(list, named{image: image})
			continue
		}
		m, err := loadMachine(image, r.open)
		if err != nil {
			return nil, err
		}
		if len(r.images) == 1 {
			r.fsName = m.Path
		}
		disks := m.Disks
		if r.disk != "" || len(disks) == 0 || r.overlay != "" {
			d, err := onlyDisk(m, r.disk)
			if err != nil {
				return nil, err
			}
			disks = []*machine.Disk{d}
		}
		for _, d := range disks {
			list = append(list, named{image, d, len(disks) == 1})
		}
	}
	return list, nil
}

// others says how to mount what is left when a disk cannot be opened.
func (n named) others() string {
	if n.alone {
		return ""
	}
	return "; --disk NAME mounts another one alone"
}

// open opens a disk with the snapshots that are not below it.
func (n named) open(o vdcore.Options) (fs.Source, error) {
	if n.disk == nil {
		c, err := vdcore.Open(n.image, o)
		return fs.Source{Chain: c}, err
	}
	if n.disk.Detached {
		o.Write = false
	}
	c, err := n.disk.Open(o)
	if err != nil {
		return fs.Source{}, fmt.Errorf("the disk %q: %w%s", n.disk.Name, err, n.others())
	}
	s := fs.Source{Name: n.disk.Name, Chain: c}
	var warnings []string
	s.Branches, warnings = n.disk.Branches(c, o)
	warnAll(warnings)
	for _, b := range s.Branches {
		warn(b)
	}
	return s, nil
}
