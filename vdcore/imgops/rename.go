package imgops

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Rename gives the image at path, all its files, another name, perhaps in another
// folder of the same file system. It never overwrites. An image in use, one that
// others were made from, and one that a machine has are refused (the last two not
// with o.BreakChildren). warnings are sentences for the user.
//
// A crash leaves an image that opens by the old name or by the new one. One file is
// renamed at once. Of several, the pieces first get their new names beside the old
// ones, then the file that names them is written under its new name, then the old
// one is removed, which is the moment the image is renamed, and then the old names of
// the pieces. The same command goes on from any of these.
func Rename(path, to string, o vdcore.Options) (warnings []string, err error) {
	if to, err = resolveNew(to); err != nil {
		return nil, err
	}
	folders := append(slices.Clone(o.Search), filepath.Dir(to))
	err = onHost(path, false, folders, func(fsys storage.FS, path string) (err error) {
		warnings, err = rename(fsys, path, to, o)
		return err
	})
	if err == nil {
		warnings = append(warnings, tryParent(to, o)...)
	}
	return warnings, err
}

func rename(fsys storage.FS, path, to string, o vdcore.Options) (warnings []string, err error) {
	c, err := hold(fsys, path, o)
	if errors.Is(err, fs.ErrNotExist) {
		if done, more := endRename(fsys, path, to, o); done {
			return nil, more
		}
	}
	if err != nil {
		return nil, err
	}
	r := &renaming{fsys: fsys, chain: c, path: path, to: to}
	if err = r.check(); err == nil {
		err = explainRename(r.run(), to)
	}
	return c.Warnings(), errors.Join(err, c.Close())
}

// explainRename adds what to do about an error that comes with the place.
func explainRename(err error, to string) error {
	switch {
	case errors.Is(err, syscall.EXDEV):
		return fmt.Errorf("%w: %s is on another file system; copy the image there instead: %w", vdcore.ErrUnsupported, filepath.Dir(to), err)
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%w: hard links cannot be made here, without which an image of several files is not renamed safely: %w", vdcore.ErrUnsupported, err)
	}
	return err
}

// renaming is one image on its way to another name.
type renaming struct {
	fsys     storage.FS
	chain    *vdcore.Chain
	path, to string
}

func (r *renaming) check() error {
	was, is := strings.ToLower(filepath.Ext(r.path)), strings.ToLower(filepath.Ext(r.to))
	b, err := vdcore.Lookup(r.chain.Top().Layer().Info().Format)
	switch {
	case err != nil:
		return err
	case r.path == r.to:
		return fmt.Errorf("%s: it has this name: %w", r.to, fs.ErrExist)
	case was != is && !slices.Contains(b.Extensions, is):
		return fmt.Errorf("%s: %w: it is a %s image, which a name in %q hides; renaming does not convert", r.path, vdcore.ErrUnsupported, b.Name, is)
	}
	return refuseNamed(r.chain, "renamed")
}

func (r *renaming) run() error {
	pieces := filesOf(r.chain)[1:]
	img, knows := r.chain.Top().Layer().Image.(vdcore.Renamer)
	if !knows {
		return r.fsys.Rename(r.path, r.to)
	}
	if len(pieces) == 0 {
		return img.Rename(r.fsys, r.to, nil)
	}
	named, names, err := r.names(pieces)
	if err != nil {
		return err
	}
	linked, err := r.link(named)
	if err == nil {
		err = img.Rename(r.fsys, r.to, names)
	}
	if err != nil {
		for _, path := range linked {
			err = errors.Join(err, r.fsys.Remove(path))
		}
		return err
	}
	if err := r.fsys.Remove(r.path); err != nil {
		return err
	}
	for _, n := range named {
		if err := r.fsys.Remove(n[0]); err != nil {
			return err
		}
	}
	return nil
}

// names finds the old and the new paths of the pieces, and what the image will call
// them. A file that is not named after the image keeps its name, which a move to
// another folder would make a wrong one.
func (r *renaming) names(pieces []string) (paths [][2]string, names map[string]string, err error) {
	names = map[string]string{}
	for _, p := range pieces {
		rest := pieceOf(r.path, p)
		switch {
		case rest != "":
			if to := stem(r.to) + rest; to != p { // else only the extension changes
				paths = append(paths, [2]string{p, to})
			}
			names[filepath.Base(p)] = filepath.Base(stem(r.to)) + rest
		case filepath.Dir(r.path) != filepath.Dir(r.to):
			return nil, nil, fmt.Errorf("%s: %w: its extent %s is not named after it, and would not be found from another folder", r.path, vdcore.ErrUnsupported, p)
		}
	}
	return paths, names, nil
}

// link gives each piece its new name, and returns those it has made. A name that an
// interrupted renaming has made leads to the piece already.
func (r *renaming) link(named [][2]string) (made []string, err error) {
	for _, n := range named {
		err := r.fsys.Link(n[0], n[1])
		if errors.Is(err, fs.ErrExist) && sameFile(r.fsys, n[0], n[1]) {
			continue
		}
		if err != nil {
			return made, err
		}
		made = append(made, n[1])
	}
	return made, nil
}

func sameFile(fsys storage.FS, a, b string) bool {
	one, err := idOf(fsys, a)
	two, err2 := idOf(fsys, b)
	return err == nil && err2 == nil && one == two
}

func idOf(fsys storage.FS, path string) (storage.FileID, error) {
	f, err := fsys.Open(path, storage.ReadOnly)
	if err != nil {
		return storage.FileID{}, err
	}
	st, err := f.Stat()
	return st.ID, errors.Join(err, f.Close())
}

// endRename removes the old names of an image's pieces, which a renaming has left that
// was interrupted when the image had its new name already. done is whether there
// were any.
func endRename(fsys storage.FS, path, to string, o vdcore.Options) (done bool, err error) {
	c, err := hold(fsys, to, o)
	if err != nil {
		return false, err
	}
	for _, p := range filesOf(c)[1:] {
		rest := pieceOf(to, p)
		if old := stem(path) + rest; rest != "" && old != p && sameFile(fsys, p, old) {
			done, err = true, errors.Join(err, fsys.Remove(old))
		}
	}
	return done, errors.Join(err, c.Close())
}
