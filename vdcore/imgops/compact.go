package imgops

import (
	"context"
	"errors"

	"vdfs/vdcore"
)

// Compacted is what a compaction did.
type Compacted struct {
	vdcore.Compacted
	Before, After Space
}

// Space is how much the files of an image take, in bytes.
type Space struct {
	Size      int64 // of the files
	Allocated int64 // on the host's disks
}

// Compact makes the topmost image of c, which was opened with Options.Write, as small
// as it can be with the same content: see [vdcore.Chain.Compact]. It closes c. When
// ctx ends, the image is sound, and the same call goes on.
func Compact(ctx context.Context, c *vdcore.Chain, progress Progress) (done Compacted, err error) {
	if done.Before, err = space(c); err != nil {
		return done, errors.Join(err, c.Close())
	}
	done.Compacted, err = c.Compact(ctx, progress)
	after, serr := space(c)
	done.After = after
	return done, errors.Join(err, serr, c.Close())
}

// space measures the files of the topmost image.
func space(c *vdcore.Chain) (s Space, err error) {
	for _, f := range c.Top().Layer().Image.Files() {
		st, err := f.Stat()
		if err != nil {
			return s, err
		}
		s.Size += st.Size
		s.Allocated += st.Allocated
	}
	return s, nil
}
