package raw

import (
	"fmt"

	"vdfs/vdcore"
)

// writer is a plain disk open for writing: all of it has its place.
type writer struct{ *image }

var _ vdcore.Writer = (*writer)(nil)

func (w *writer) Unit(int64) vdcore.Unit {
	return vdcore.Unit{Len: w.info.Capacity, Fixed: true}
}

func (w *writer) Can(vdcore.Kind) bool { return false }

// Begin has nothing to prepare: the file says nothing of itself that could change.
func (w *writer) Begin(bool) error { return nil }

func (w *writer) Reserve(u vdcore.Unit) (vdcore.Place, error) {
	return vdcore.Place{}, fmt.Errorf("a plain disk has no place for %d bytes more: %w", u.Len, vdcore.ErrUnsupported)
}

func (w *writer) Release(vdcore.Place) {}

func (w *writer) Prepare(changes []vdcore.Change) error { return refuse(changes) }

func (w *writer) Publish(changes []vdcore.Change) error { return refuse(changes) }

func (w *writer) Finish() error { return nil }

// refuse is for changes of a map that cannot change.
func refuse(changes []vdcore.Change) error {
	if len(changes) == 0 {
		return nil
	}
	return fmt.Errorf("a plain disk has no map: %w", vdcore.ErrUnsupported)
}
