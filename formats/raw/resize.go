package raw

import (
	"context"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

var _ vdcore.Resizer = (*writer)(nil)

// CanResize: a plain disk may have any size.
func (w *writer) CanResize(int64) error { return nil }

// Resize makes the file longer or shorter.
func (w *writer) Resize(_ context.Context, _ storage.FS, capacity int64, _ func(done, total int64)) error {
	if err := w.file.Truncate(capacity); err != nil {
		return err
	}
	return w.file.Sync()
}
