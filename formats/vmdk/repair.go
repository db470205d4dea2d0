package vmdk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// What a check calls the rules a file with tables keeps; docs/check-codes.md lists all.
const (
	codeDirectory  = "directory-outside"
	codeSpareDir   = "redundant-directory"
	codeTable      = "table-outside"
	codeSpareTable = "redundant-table-outside"
	codeDiffer     = "redundant-table"
	codeOverlap    = "tables-overlap"
	codeOutside    = "grain-outside"
	codeInMeta     = "grain-in-metadata"
	codeShared     = "shared-grain"
	codeTorn       = "grain-torn"
	codeRecord     = "grain-damaged"
	codeUnclean    = "unclean"
	codeTail       = "leaked-tail"
	codeLeaked     = "leaked-grain"
	codeFooter     = "footer"
	codeTooMany    = "tables-too-many"
)

// repair plans what mends an image: its hosted sparse files, each by itself. A
// streamOptimized file without its footer gets one.
func repair(ctx context.Context, args vdcore.OpenArgs) (*vdcore.RepairPlan, error) {
	mode := storage.ReadOnly
	if args.Write {
		mode = storage.ReadWrite
	}
	st, err := args.File.Stat()
	if err != nil {
		return nil, err
	}
	args.Shallow, args.Write = true, false
	opened, err := open(args)
	if err != nil {
		return nil, err
	}
	img := opened.(*image)
	if lost, err := img.lostFooter(st.Size); err != nil || lost {
		if err != nil {
			return nil, err
		}
		return img.planRebuild(ctx, st.Size)
	}
	a := newAssembly(args, img, st)
	a.mode = mode
	err = a.run()
	var plan *vdcore.RepairPlan
	if err == nil {
		plan, err = img.planRepair(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, closeAll(img.files[1:]))
	}
	return plan, nil
}

// planRepair goes through the extents.
func (i *image) planRepair(ctx context.Context) (*vdcore.RepairPlan, error) {
	plan := &vdcore.RepairPlan{Files: i.files}
	at := int64(0)
	for _, p := range i.pieces {
		g, ok := p.(*grains)
		if ok {
			_, ok = g.head.(*hostedHeader)
		}
		if !ok {
			i.keep(plan, at, p.end(), nil)
		} else {
			lost, err := g.planRepair(ctx, plan)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", g.name, err)
			}
			if lost && len(i.pieces) == 1 && g.index == 0 {
				return i.planRebuild(ctx, g.length)
			}
			i.keep(plan, at, p.end(), g.flaws().uncovered)
		}
		at = p.end()
	}
	return plan, nil
}

// keep says of the damage between two guest offsets that it stays: of all, or of that
// of one cause.
func (i *image) keep(plan *vdcore.RepairPlan, from, to int64, only error) {
	for _, d := range i.info.Damage {
		if d.Off < from || d.Off >= to || only != nil && d.Err != only {
			continue
		}
		plan.Kept = append(plan.Kept, vdcore.Finding{Code: cmp.Or(vdcore.FlawCode(d.Err), "lost"), Bytes: d.Len,
			Text: fmt.Sprintf("guest bytes %d to %d cannot be read: %v", d.Off, d.Off+d.Len, d.Err)})
	}
}

// Check lists what a repair would mend, and what it could not; the ranges that
// cannot be read are in Info.Damage already.
func (i *image) Check() ([]vdcore.Finding, error) {
	plan := &vdcore.RepairPlan{Files: i.files}
	for _, g := range i.sparse() {
		if _, ok := g.head.(*hostedHeader); !ok {
			continue
		}
		if _, err := g.planRepair(context.Background(), plan); err != nil {
			return nil, fmt.Errorf("%s: %w", g.name, err)
		}
	}
	list := plan.Kept
	for _, m := range plan.Mends {
		if len(m.Lost) == 0 || !i.told(m.Code) {
			list = append(list, m.Finding)
		}
	}
	return list, nil
}

var _ vdcore.Checker = (*image)(nil)

// told reports whether Info.Damage has ranges of a code.
func (i *image) told(code string) bool {
	return slices.ContainsFunc(i.info.Damage, func(d vdcore.Damage) bool { return vdcore.FlawCode(d.Err) == code })
}
