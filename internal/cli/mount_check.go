package cli

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"vdfs/fs"
	"vdfs/internal/shell"
	"vdfs/vdcore"
)

// checkMountpoint says in plain words why n images cannot be mounted there.
func checkMountpoint(path string, n int, nonempty bool) error {
	if err := checkNotMounted(path); err != nil {
		return err
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return usageError{fmt.Sprintf("mountpoint %s does not exist; create a folder (or an empty file) of that name first", path)}
	case err != nil:
		return fmt.Errorf("mountpoint: %w", err)
	case st.IsDir():
		if !nonempty && !isEmptyFolder(path) {
			return usageError{fmt.Sprintf("mountpoint %s is not empty, and what is in it would be hidden; -o nonempty mounts all the same", path)}
		}
	case !st.Mode().IsRegular():
		return usageError{fmt.Sprintf("mountpoint %s is neither a folder nor a regular file", path)}
	case n != 1:
		return usageError{fmt.Sprintf("mountpoint %s is a file, which can show one image; for %d give a folder", path, n)}
	case st.Size() > 0 && !nonempty:
		return usageError{fmt.Sprintf("mountpoint %s is a file that is not empty (the mountpoint comes last); -o nonempty hides its content", path)}
	}
	return nil
}

// checkNotMounted asks the mount table, without touching what is mounted: a
// mount whose daemon is gone would only answer with an error.
func checkNotMounted(path string) error {
	path = resolveMountpoint(path)
	e, err := fs.MountAt(path)
	if err != nil || e == nil || e.Type != fs.FSType {
		return err
	}
	if probe(path).state == stateStale {
		return codedError{fmt.Errorf("%s: the mount of a daemon that is gone is in the way; free it with: vdfs umount %s", path, shell.Quote(path)), exitInUse}
	}
	return fmt.Errorf("%s shows %s already: %w", path, e.Source, vdcore.ErrInUse)
}

// resolveMountpoint makes a path look as in the mount table. The last component
// is looked at only if need be: it may be a mount that hangs.
func resolveMountpoint(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	if e, _ := fs.MountAt(path); e != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// isEmptyFolder takes a folder that cannot be read for empty; mounting decides.
func isEmptyFolder(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return err == io.EOF || errors.Is(err, unix.EACCES)
}

// checkHidden refuses a mountpoint that would cover a file of the chain.
func checkHidden(c *vdcore.Chain, mountpoint string) error {
	mountpoint = resolveMountpoint(mountpoint)
	for _, l := range c.Layers() {
		for _, f := range l.Image.Files() {
			if f.Path() == mountpoint || strings.HasPrefix(f.Path(), strings.TrimSuffix(mountpoint, "/")+"/") {
				return usageError{fmt.Sprintf("the mount on %s would hide %s, which it needs; mount elsewhere", mountpoint, f.Path())}
			}
		}
	}
	return nil
}
