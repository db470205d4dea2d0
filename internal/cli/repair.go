package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func repairFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "repair", Usage: "mend IMAGE, after saying what will change"},
		&cli.BoolFlag{Name: "dry-run", Usage: "with --repair: only say what would change"},
		breakChildrenFlag(),
	}
}

func wantsRepair(c *cli.Context) (bool, error) {
	repairing := c.Bool("repair")
	for _, name := range []string{"dry-run", "break-children"} {
		if c.Bool(name) && !repairing {
			return false, usageError{"--" + name + " goes with --repair"}
		}
	}
	return repairing, nil
}

// repaired is what is printed of a repair.
type repaired struct {
	Schema  int            `json:"schema"`
	Path    string         `json:"path"`
	DryRun  bool           `json:"dry_run"`
	Mends   []mended       `json:"mends"`
	Kept    []checkFinding `json:"kept"`
	Backups []string       `json:"backups"`
	damaged int
}

type mended struct {
	checkFinding
	Does     string         `json:"does"`
	Lost     []vdcore.Range `json:"lost"`
	LostMore int64          `json:"lost_more"`
}

// runRepair mends one image. The plan is printed before anything is changed.
func runRepair(c *cli.Context, path string, o vdcore.Options) error {
	o.BreakChildren = c.Bool("break-children")
	ctx, stop := untilSignal(c)
	defer stop()
	out := &repaired{Schema: 1, Path: path, DryRun: c.Bool("dry-run"), Mends: []mended{}, Kept: []checkFinding{}, Backups: []string{}}
	text := c.App.Writer
	if c.Bool("json") {
		text = io.Discard
	}
	backups, kept, err := imgops.Repair(ctx, path, imgops.RepairOptions{Open: o, DryRun: out.DryRun, Announce: func(r *vdcore.Repair) error {
		for _, w := range r.Warnings() {
			warnOf("%s", w)
		}
		return out.announce(text, r)
	}}, progress(c, "repairing"))
	out.Backups = append(out.Backups, backups...)
	for _, f := range kept {
		out.Kept = append(out.Kept, checkFinding(f))
	}
	if vdcore.FlawCode(err) != "" {
		return errors.Join(err, fmt.Errorf("%s: this cannot be mended", path))
	}
	err = errors.Join(err, out.print(c, text))
	if errors.Is(err, context.Canceled) {
		return codedError{fmt.Errorf("%w; the same command goes on", err), exitIO}
	}
	return errors.Join(err, out.verdict(kept))
}

// announce prints a plan; a second one follows when more came to light.
func (r *repaired) announce(w io.Writer, p *vdcore.Repair) error {
	for _, m := range p.Plan.Mends {
		if !m.Leak && !m.Odd {
			r.damaged++
		}
		r.Mends = append(r.Mends, mended{checkFinding(m.Finding), m.Does, append([]vdcore.Range{}, m.Lost...), m.LostMore})
		if _, err := fmt.Fprintf(w, "%s: %s (%s): %s: %s\n", clean(r.Path), kindOf(m.Finding), m.Code, clean(m.Text), clean(m.Does)); err != nil {
			return err
		}
		if err := printLost(w, &m); err != nil {
			return err
		}
	}
	return nil
}

// printLost says loudly what is gone.
func printLost(w io.Writer, m *vdcore.Mend) error {
	for _, l := range m.Lost {
		if _, err := fmt.Fprintf(w, "  DATA LOST: guest bytes %d to %d (%s)\n", l.Off, l.Off+l.Len, size(l.Len)); err != nil {
			return err
		}
	}
	if m.LostMore == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "  DATA LOST: and %d more ranges, %s in all\n", m.LostMore, size(m.Bytes))
	return err
}

// print says how it ended.
func (r *repaired) print(c *cli.Context, w io.Writer) error {
	if c.Bool("json") {
		return printJSON(c.App.Writer, r)
	}
	for _, f := range r.Kept {
		fmt.Fprintf(w, "%s: cannot be mended (%s): %s\n", clean(r.Path), f.Code, clean(f.Text))
	}
	for _, b := range r.Backups {
		fmt.Fprintf(w, "%s: what was replaced is saved in %s\n", clean(r.Path), clean(b))
	}
	end := "repaired"
	switch {
	case len(r.Mends) == 0 && len(r.Kept) == 0:
		end = "nothing to repair"
	case r.DryRun:
		end = "nothing was changed (--dry-run)"
	case len(r.Backups) == 0:
		end = "nothing was changed"
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", clean(r.Path), end)
	return err
}

// verdict fails for what is still wrong.
func (r *repaired) verdict(kept []vdcore.Finding) error {
	wrong := imgops.Checked{Findings: kept}
	_, damaged := wrong.Count()
	if r.DryRun {
		damaged += r.damaged
	}
	if damaged == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w: %d findings are not mended", r.Path, vdcore.ErrCorrupt, damaged)
}
