package imgops

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// filesOf lists the files of a chain's topmost image, the one that names the others
// first.
func filesOf(c *vdcore.Chain) []string {
	top := c.Top().Layer()
	list := []string{top.Path}
	for _, f := range top.Image.Files() {
		if !slices.Contains(list, f.Path()) {
			list = append(list, f.Path())
		}
	}
	return list
}

// removeFiles deletes the files of a chain's topmost image. Which they are, the image
// says, and it is not trusted with the names of other files: what does not lie
// beside it and is not named after it, as every tool names the pieces, is left for
// the user. The file that names the others goes first, so that a crash leaves no half
// of an image, and those it does leave are found by their names.
func removeFiles(fsys storage.FS, c *vdcore.Chain) (left []string, err error) {
	files := filesOf(c)
	for _, path := range files {
		if path != files[0] && pieceOf(files[0], path) == "" {
			left = append(left, path)
			continue
		}
		if err := fsys.Remove(path); err != nil {
			return left, err
		}
	}
	return left, nil
}

// pieceName is what every tool adds to an image's name for its extents.
var pieceName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^-(flat|delta|sesparse|[sf][0-9]{3,})\.vmdk$`)
})

// pieceOf returns what path adds to the name of the image it lies beside, as the name
// of an extent, "" when it is not named so.
func pieceOf(image, path string) string {
	rest, ok := strings.CutPrefix(path, stem(image))
	if !ok || !pieceName().MatchString(rest) {
		return ""
	}
	return rest
}

// stem is a path without its extension.
func stem(path string) string { return strings.TrimSuffix(path, filepath.Ext(path)) }

// hold opens the image at path alone, keeping everybody else from it.
func hold(fsys storage.FS, path string, o vdcore.Options) (*vdcore.Chain, error) {
	o.Hold, o.Alone = true, true
	return vdcore.OpenFS(fsys, path, o)
}

// refuseNamed refuses to move or remove an image that others were made from, or that a
// machine has. what becomes of it completes the sentence.
func refuseNamed(c *vdcore.Chain, what string) error {
	if c.Options().BreakChildren {
		return nil
	}
	path := c.Top().Layer().Path
	child, err := c.Child()
	if err != nil {
		return err
	}
	if child != "" {
		return fmt.Errorf("%s: %w as parent of %s, so it is not %s; give the other up with --break-children", path, vdcore.ErrInUse, child, what)
	}
	if registry := c.Registered(); registry != "" {
		return fmt.Errorf("%s: %w: %s lists it as a medium, so it is not %s; have VirtualBox do it, or give the machine up with --break-children",
			path, vdcore.ErrInUse, registry, what)
	}
	return nil
}

// onHost calls do with the host's files, confined to where the image at path lies, or
// lay before it was renamed, and to further folders. With links false the path must
// not be a symbolic link: not the link would be moved or removed.
func onHost(path string, links bool, folders []string, do func(fsys storage.FS, path string) error) error {
	if st, err := os.Lstat(path); err == nil && !links && st.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s: %w: it is a symbolic link; name the file itself", path, vdcore.ErrUnsupported)
	}
	real, err := storage.Resolve(path)
	if errors.Is(err, fs.ErrNotExist) {
		real, err = resolveNew(path)
	}
	if err != nil {
		return err
	}
	host, err := storage.NewOS(real, folders...)
	if err != nil {
		return err
	}
	return errors.Join(do(host, real), host.Close())
}
