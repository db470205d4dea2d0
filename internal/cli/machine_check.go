package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/machine"
)

// checkedFile is a file that a manifest lists.
type checkedFile struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	OK        bool   `json:"ok"`
	Error     string `json:"error,omitempty"`
}

// checkedDisk is what was found in one disk of a machine.
type checkedDisk struct {
	Name  string         `json:"name"`
	Error string         `json:"error,omitempty"` // why it does not open
	Found map[string]any `json:"found,omitempty"`
}

// runMachineCheck compares the files of an exported machine with its manifest, and
// checks the layers of all its disks.
func runMachineCheck(c *cli.Context, path string, o vdcore.Options) error {
	m, err := loadMachine(path, o)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(c)
	defer stop()
	text := c.App.Writer
	if c.Bool("json") {
		text = io.Discard
	}
	files, wrong := checkManifest(ctx, c, text, m)
	if errors.Is(wrong, context.Canceled) {
		return codedError{wrong, exitIO}
	}
	disks := []checkedDisk{}
	for _, d := range m.Disks {
		row, err := checkMachineDisk(text, d, o)
		disks, wrong = append(disks, row), errors.Join(wrong, err)
	}
	if c.Bool("json") {
		wrong = errors.Join(wrong, printJSON(c.App.Writer, map[string]any{"schema": 1, "manifest": files, "disks": disks}))
	}
	return wrong
}

func checkManifest(ctx context.Context, c *cli.Context, w io.Writer, m *machine.Machine) (list []checkedFile, wrong error) {
	digests, err := m.Verify(ctx, progress(c, "verifying"))
	list = []checkedFile{}
	errs := []error{err} // joined once: each join is as long as all before it
	for _, d := range digests {
		row := checkedFile{d.Name, d.Algorithm, d.Err == nil, ""}
		verdict := "as the manifest says"
		if d.Err != nil {
			row.Error, verdict = d.Err.Error(), "NOT as the manifest says"
		}
		fmt.Fprintf(w, "%s: %s (%s)\n", clean(d.Name), verdict, d.Algorithm)
		list, errs = append(list, row), append(errs, d.Err)
	}
	if len(digests) == 0 && err == nil && m.Kind == machine.OVF {
		fmt.Fprintf(w, "%s: there is no manifest to compare with\n", clean(m.File))
	}
	return list, errors.Join(errs...)
}

func checkMachineDisk(w io.Writer, d *machine.Disk, o vdcore.Options) (row checkedDisk, err error) {
	row.Name = d.Name
	chain, err := d.Open(o)
	if err != nil {
		row.Error = err.Error()
		fmt.Fprintf(w, "disk %s: does not open\n", clean(d.Name))
		return row, err
	}
	defer chain.Close()
	warn(chain)
	list, err := imgops.Check(chain)
	if err != nil {
		return row, err
	}
	row.Found = checkJSON(list)
	fmt.Fprintf(w, "disk %s\n", clean(d.Name))
	if err := printChecked(w, list); err != nil {
		return row, err
	}
	if _, damaged := count(list); damaged > 0 {
		return row, fmt.Errorf("the disk %q: %w: %d findings", d.Name, vdcore.ErrCorrupt, damaged)
	}
	return row, nil
}
