package imgops

import (
	"errors"
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Set changes what the image at path says of itself, in one step: a crash leaves it
// as it was or as it shall be. Of o it heeds Format, Search, Parents and
// BreakChildren. An image in use is refused; one that others were made from, or that
// a machine has, keeps its UUIDs. warnings are sentences for the user, also when the
// parent it names now is not found.
func Set(path string, e vdcore.Edit, o vdcore.Options) (warnings []string, err error) {
	err = onHost(path, true, o.Search, func(fsys storage.FS, path string) (err error) {
		warnings, err = set(fsys, path, e, o)
		return err
	})
	if err == nil && e.Reparents() {
		warnings = append(warnings, tryParent(path, o)...)
	}
	return warnings, err
}

func set(fsys storage.FS, path string, e vdcore.Edit, o vdcore.Options) ([]string, error) {
	c, err := hold(fsys, path, o)
	if err != nil {
		return nil, err
	}
	if e.UUID != nil || e.ModUUID != nil {
		err = refuseNamed(c, "given another UUID")
	}
	if err == nil {
		err = c.Edit(e)
	}
	return c.Warnings(), errors.Join(err, c.Close())
}

// tryParent says what is wrong with the parent the image at path names.
func tryParent(path string, o vdcore.Options) []string {
	c, err := vdcore.Open(path, o)
	if err != nil {
		return []string{fmt.Sprintf("the image does not open with its parent: %v", err)}
	}
	warnings := c.Warnings()
	if err := c.Close(); err != nil {
		warnings = append(warnings, err.Error())
	}
	return warnings
}
