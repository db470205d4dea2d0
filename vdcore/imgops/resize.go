package imgops

import (
	"context"
	"errors"

	"vdfs/vdcore"
)

// Resize gives the disk of the topmost image of c, which was opened with
// Options.Write, another capacity in bytes: see [vdcore.Chain.Resize]. A smaller one
// that would lose data is vdcore.ErrCut, which says where they lie. It closes c. When
// ctx ends the disk is as it was, and the same call goes on.
func Resize(ctx context.Context, c *vdcore.Chain, capacity int64, progress Progress) error {
	err := c.Resize(ctx, capacity, progress)
	return errors.Join(err, c.Close())
}
