package imgops

import (
	"errors"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Remove deletes all files of the image at path, the one that names the others
// first. An image in use, one that others were made from, and one that a machine has
// are refused (the last two not with o.BreakChildren); a damaged one is not, nor one
// without its parents. left names files of the image that were not removed, because
// their names do not tell that they are its; warnings are sentences for the user.
func Remove(path string, o vdcore.Options) (left, warnings []string, err error) {
	err = onHost(path, false, o.Search, func(fsys storage.FS, path string) (err error) {
		left, warnings, err = remove(fsys, path, o)
		return err
	})
	return left, warnings, err
}

func remove(fsys storage.FS, path string, o vdcore.Options) (left, warnings []string, err error) {
	o.AllowIncomplete = true
	c, err := hold(fsys, path, o)
	if err != nil {
		return nil, nil, err
	}
	if err = refuseNamed(c, "removed"); err == nil {
		left, err = removeFiles(fsys, c)
	}
	return left, c.Warnings(), errors.Join(err, c.Close())
}
