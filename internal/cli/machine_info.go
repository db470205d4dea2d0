package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/machine"
)

// machineJSON is a machine in the words of `info --json`.
type machineJSON struct {
	Schema   int           `json:"schema"`
	Machine  machineHead   `json:"machine"`
	Disks    []machineDisk `json:"disks"`
	Warnings []string      `json:"warnings"`
}

type machineHead struct {
	Name      string            `json:"name"`
	Kind      string            `json:"kind"`
	Path      string            `json:"path"`
	File      string            `json:"file"`
	Snapshots []machineSnapshot `json:"snapshots"`
}

type machineSnapshot struct {
	vdcore.SnapshotDescription
	Parent  int  `json:"parent"` // index in the list, -1 for none
	Current bool `json:"current"`
}

type machineDisk struct {
	Name     string    `json:"name"`
	Slot     string    `json:"slot,omitempty"`
	Detached bool      `json:"detached,omitempty"` // only snapshots have it
	Error    string    `json:"error,omitempty"`    // why it cannot be opened
	Disk     *diskInfo `json:"disk,omitempty"`

	bars *bars
}

// runMachineInfo shows a machine and all its disks. A disk that cannot be opened is
// shown with the reason, and is the command's error.
func runMachineInfo(c *cli.Context, path string) error {
	o, err := openOptions(c)
	if err != nil {
		return err
	}
	m, err := loadMachine(path, o)
	if err != nil {
		return err
	}
	out := describeMachine(m)
	var broken error
	for _, d := range m.Disks {
		row := machineDisk{Name: d.Name, Slot: d.Slot, Detached: d.Detached}
		chain, err := d.Open(o)
		if err != nil {
			row.Error = err.Error()
			broken = errors.Join(broken, err)
		} else {
			warn(chain)
			d := infoOf(chain)
			row.Disk, row.bars = &d, takeBars(chain)
			if err := chain.Close(); err != nil {
				return err
			}
		}
		out.Disks = append(out.Disks, row)
	}
	if c.Bool("json") {
		err = printJSON(c.App.Writer, out)
	} else {
		err = printMachine(newPage(c.App.Writer), out)
	}
	return errors.Join(err, broken)
}

func describeMachine(m *machine.Machine) machineJSON {
	head := machineHead{Name: m.Name, Kind: m.Kind, Path: m.Path, File: m.File, Snapshots: []machineSnapshot{}}
	for _, s := range m.Snapshots {
		head.Snapshots = append(head.Snapshots, machineSnapshot{s.Describe(), s.Parent, s.Current})
	}
	return machineJSON{Schema: 1, Machine: head, Disks: []machineDisk{}, Warnings: append([]string{}, m.Warnings...)}
}

// printMachine prints the machine, its snapshots as a tree, and its disks.
func printMachine(p *page, m machineJSON) error {
	f := newFields(p)
	f.add("machine", bold, "%s (%s)", m.Machine.Name, m.Machine.Kind)
	f.add("described by", plain, "%s", m.Machine.File)
	for i, d := range m.Disks {
		f.add(fmt.Sprintf("disk %d", i+1), plain, "%s", d.line())
	}
	if err := f.print(); err != nil {
		return err
	}
	if err := printSnapshots(p, m.Machine.Snapshots); err != nil {
		return err
	}
	next := []string{}
	for _, d := range m.Disks {
		if d.Disk == nil {
			continue
		}
		if _, err := fmt.Fprintf(p, "\n%s\n", p.in(bold, "disk "+clean(d.Name))); err != nil {
			return err
		}
		if err := printInfo(p, d.Disk, d.bars); err != nil {
			return err
		}
		next = append(next, stepsBefore(m.Machine.Path, d.Name, d.Disk.Contents)[min(1, len(next)):]...)
	}
	return printSteps(p, next)
}

func (d *machineDisk) line() string {
	parts := []string{d.Name}
	if d.Slot != "" {
		parts = append(parts, d.Slot)
	}
	if d.Disk != nil {
		parts = append(parts, size(d.Disk.Capacity))
	}
	if d.Detached {
		parts = append(parts, "only in snapshots")
	}
	if d.Error != "" {
		parts = append(parts, "cannot be opened")
	}
	return strings.Join(parts, ", ")
}

// printSnapshots prints each snapshot with its time below the one it was made from.
// The present state was made from the one with the arrow.
func printSnapshots(p *page, list []machineSnapshot) error {
	depth := make([]int, len(list))
	rows := [][]cell{}
	for i, s := range list {
		if i == 0 {
			rows = append(rows, []cell{{text: "snapshots"}})
		}
		if s.Parent >= 0 {
			depth[i] = depth[s.Parent] + 1
		}
		mark := " "
		if s.Current {
			mark = ">"
		}
		name := mark + " " + strings.Repeat("  ", min(depth[i], 20)) + clean(s.Name)
		rows = append(rows, []cell{{text: name}, {text: localTime(s.Taken)}})
	}
	if len(rows) == 0 {
		return nil
	}
	return p.fit(rows, 0)
}

// localTime is a time as a person at this machine reads it.
func localTime(rfc string) string {
	t, err := time.Parse(time.RFC3339, rfc)
	if err != nil {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
