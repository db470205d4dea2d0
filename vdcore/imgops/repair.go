package imgops

import (
	"context"
	"errors"
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// RepairOptions say how to repair an image.
type RepairOptions struct {
	Open vdcore.Options // Write is set by Repair
	// DryRun plans and changes nothing; the image need not be writable.
	DryRun bool
	// Announce is called with the plan before anything is changed, and an error of it
	// ends the repair.
	Announce func(*vdcore.Repair) error
}

// maxPasses bounds how often a repair looks again: mending one thing, a lost footer
// above all, can bring to light another.
const maxPasses = 4

// Repair mends the image at path; its parents are not touched. What it replaces or
// cuts off is saved beside the image first, in the files whose paths it returns, one
// for each plan that was carried out. It returns what could not be mended.
//
// When it is interrupted, by ctx or a power cut, the image is no worse than before,
// and repairing again goes on.
func Repair(ctx context.Context, path string, o RepairOptions, progress Progress) (backups []string, kept []vdcore.Finding, err error) {
	real, err := storage.Resolve(path)
	if err != nil {
		return nil, nil, err
	}
	host, err := storage.NewOS(real, o.Open.Search...)
	if err != nil {
		return nil, nil, err
	}
	backups, kept, err = RepairFS(ctx, host, real, o, progress)
	return backups, kept, errors.Join(err, host.Close())
}

// RepairFS is Repair in any file system; path is absolute there.
func RepairFS(ctx context.Context, fsys storage.FS, path string, o RepairOptions, progress Progress) (backups []string, kept []vdcore.Finding, err error) {
	o.Open.Write = !o.DryRun
	for range maxPasses {
		r, err := vdcore.OpenRepairFS(ctx, fsys, path, o.Open)
		if err != nil {
			return backups, kept, err
		}
		kept = r.Plan.Kept
		backup, more, err := o.pass(ctx, r, progress)
		if backup != "" {
			backups = append(backups, backup)
		}
		if err = errors.Join(err, r.Close()); err != nil {
			return backups, kept, err
		}
		if !more {
			return backups, kept, o.verify(fsys, path, kept)
		}
	}
	return backups, kept, fmt.Errorf("%s: %w: it still wants repair after %d passes", path, vdcore.ErrCorrupt, maxPasses)
}

// pass carries one plan out; more asks for another look.
func (o *RepairOptions) pass(ctx context.Context, r *vdcore.Repair, progress Progress) (backup string, more bool, err error) {
	if o.Announce != nil {
		if err := o.Announce(r); err != nil {
			return "", false, err
		}
	}
	if o.DryRun || len(r.Plan.Mends) == 0 {
		return "", false, nil
	}
	if err := context.Cause(ctx); err != nil {
		return "", false, err
	}
	if backup, err = saveBackup(ctx, r); err != nil {
		return "", false, fmt.Errorf("the backup of what is to be changed could not be made, and nothing was: %w", err)
	}
	return backup, true, carryOut(ctx, r.Plan, progress)
}

// verify opens an image of which everything is said to be sound, but for what is odd.
func (o *RepairOptions) verify(fsys storage.FS, path string, kept []vdcore.Finding) error {
	_, damaged := (&Checked{Findings: kept}).Count()
	if o.DryRun || damaged > 0 {
		return nil
	}
	c, err := vdcore.OpenFS(fsys, path, vdcore.Options{Format: o.Open.Format, Search: o.Open.Search, Alone: true})
	if err != nil {
		return err
	}
	return c.Close()
}

// carryOut makes the changes, with a barrier behind every step.
func carryOut(ctx context.Context, p *vdcore.RepairPlan, progress Progress) error {
	count := &counter{report: progress}
	for _, step := range p.Steps {
		for _, c := range step {
			count.total += int64(len(c.Data)) + c.Len
		}
	}
	for _, step := range p.Steps {
		for _, c := range step {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if err := change(p.Files[c.File], c); err != nil {
				return err
			}
			count.add(int64(len(c.Data)) + c.Len)
		}
		for _, f := range p.Files {
			if err := f.DataSync(); err != nil {
				return err
			}
		}
	}
	for _, f := range p.Files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// change makes one change.
func change(f storage.File, c vdcore.Patch) error {
	switch {
	case c.Resize:
		return f.Truncate(c.Pos)
	case c.Len > 0:
		return storage.Copy(f, c.Pos, f, c.From, c.Len, make([]byte, min(c.Len, copyChunk)))
	}
	_, err := f.WriteAt(c.Data, c.Pos)
	return err
}
