package raw

import (
	"context"
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	sparse = "sparse"
	fixed  = "fixed"
)

// makes: to VirtualBox every plain disk is a fixed one, whatever the file system has
// allocated.
var makes = []vdcore.Making{
	{Name: sparse, Variant: "raw", Flags: vdcore.FlagFixed},
	{Name: fixed, Variant: "raw", Flags: vdcore.FlagFixed},
}

// create makes a disk of zeros: a hole, or preallocated.
func create(ctx context.Context, args vdcore.CreateArgs) error {
	m, err := args.Choose(makes)
	if err == nil && args.Capacity <= 0 {
		err = fmt.Errorf("a disk of %d bytes: %w", args.Capacity, vdcore.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", args.Path, err)
	}
	files := vdcore.MakeFiles(args.FS)
	f, err := files.Add(args.Path)
	if err == nil {
		err = fill(ctx, f, m, args)
	}
	if err = files.Finish(err); err != nil {
		return fmt.Errorf("create %s: %w", args.Path, err)
	}
	return nil
}

func fill(ctx context.Context, f storage.File, m vdcore.Making, args vdcore.CreateArgs) error {
	if err := f.Truncate(args.Capacity); err != nil {
		return err
	}
	if m.Name == fixed {
		if err := vdcore.TakeSpace(ctx, f, 0, args.Capacity, vdcore.Tell(args.Progress, args.Capacity)); err != nil {
			return err
		}
	}
	return f.Sync()
}
