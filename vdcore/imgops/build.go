package imgops

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// build has an image made at path. With force one that is there is replaced: the new
// one is made in a folder of its own beside it, under the names it will have, and its
// files are moved when it is whole, the one that is opened last. An image that is in
// use, or the parent of another, is not replaced (vdcore.ErrInUse), and nobody can begin
// to use it meanwhile.
func build(path string, force bool, do func(path string) error) error {
	path, err := resolveNew(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); !force || errors.Is(err, os.ErrNotExist) {
		return do(path)
	}
	return onHost(path, false, nil, func(fsys storage.FS, path string) error {
		old, release, err := replaceable(fsys, path)
		if err != nil {
			return err
		}
		return errors.Join(buildOver(path, old, do), release())
	})
}

// buildOver makes an image beside path and moves it over the old files.
func buildOver(path string, old []string, do func(path string) error) error {
	beside, err := os.MkdirTemp(filepath.Dir(path), ".vdfs-new-*")
	if err != nil {
		return err
	}
	err = do(filepath.Join(beside, filepath.Base(path)))
	if err == nil {
		err = replace(path, beside, old)
	}
	return errors.Join(err, os.RemoveAll(beside))
}

// replaceable lists the files of the image at path, which nobody may use, and keeps
// everybody from it until release is called. What is no image, or one that cannot be
// opened, is a single file, and files that are not named as pieces of the image are not
// its own, whatever it says.
func replaceable(fsys storage.FS, path string) (files []string, release func() error, err error) {
	files = []string{path}
	c, err := hold(fsys, path, vdcore.Options{AllowIncomplete: true})
	switch {
	case errors.Is(err, vdcore.ErrInUse), errors.Is(err, vdcore.ErrNotRegular), errors.Is(err, os.ErrPermission):
		return nil, nil, err
	case err != nil:
		return files, func() error { return nil }, nil
	}
	for _, p := range filesOf(c)[1:] {
		if pieceOf(path, p) != "" {
			files = append(files, p)
		}
	}
	if err := refuseNamed(c, "replaced"); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w (vdfs rm)", err), c.Close())
	}
	return files, c.Close, nil
}

// replace moves what is in the folder beside over the old files, and removes those
// that have no successor.
func replace(path, beside string, old []string) error {
	list, err := os.ReadDir(beside)
	if err != nil {
		return err
	}
	dir, last := filepath.Split(path)
	var names []string
	for _, e := range list {
		if n := e.Name(); n != last {
			names = append(names, n)
		}
	}
	for _, n := range names { // before anything is moved
		if to := dir + n; !slices.Contains(old, to) && exists(to) {
			return fmt.Errorf("%s: %w, and is no part of %s", to, os.ErrExist, path)
		}
	}
	for _, n := range append(names, last) {
		if err := os.Rename(filepath.Join(beside, n), dir+n); err != nil {
			return err
		}
		old = slices.DeleteFunc(old, func(p string) bool { return p == dir+n })
	}
	if err := syncDir(path); err != nil {
		return err
	}
	for _, p := range old {
		if err := os.Remove(p); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// syncDir makes the names in path's folder durable.
func syncDir(path string) error {
	host, err := storage.NewOS(path)
	if err != nil {
		return err
	}
	return errors.Join(host.SyncDir(filepath.Dir(path)), host.Close())
}
