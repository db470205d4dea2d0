package storage

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path/filepath"
)

// Overwrite gives the file at path another content, durably and in one step: a crash
// leaves the old content or the new one, with the mode and owner the file had. Where
// no such file can be put beside it, for want of permission, it is written in place,
// which a crash may leave half done.
func Overwrite(fsys FS, path string, content []byte) error {
	temp, err := stage(fsys, path, content)
	if err == nil {
		if err = fsys.CopyOwner(path, temp); err == nil {
			err = fsys.Replace(temp, path)
		}
		err = discard(fsys, temp, err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return inPlace(fsys, path, content)
	}
	return err
}

// discard removes a staged file after an error, if it is there.
func discard(fsys FS, temp string, err error) error {
	if err == nil {
		return nil
	}
	if gone := fsys.Remove(temp); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// NewFile makes a file with a content, durably and in one step: a crash leaves all
// of it or nothing. The mode is that of the file at model, and so is the owner where
// the user may give files away; without a model they are any new file's. It fails with fs.ErrExist when there is a file at
// path.
func NewFile(fsys FS, path, model string, content []byte) error {
	temp, err := stage(fsys, path, content)
	if err != nil {
		return err
	}
	if model != "" {
		err = fsys.CopyOwner(model, temp)
	}
	if err == nil || errors.Is(err, fs.ErrPermission) {
		err = fsys.Rename(temp, path)
	}
	return discard(fsys, temp, err)
}

// stage writes a file beside path, under a name that tells of path, so that one a
// crash has left is found and made anew. After an error there is none.
func stage(fsys FS, path string, content []byte) (temp string, err error) {
	sum := fnv.New64a()
	sum.Write([]byte(filepath.Base(path)))
	temp = filepath.Join(filepath.Dir(path), fmt.Sprintf(".vdfs-%016x.tmp", sum.Sum64()))
	f, err := fsys.Open(temp, Create)
	if errors.Is(err, fs.ErrExist) {
		if err := fsys.Remove(temp); err != nil {
			return "", err
		}
		f, err = fsys.Open(temp, Create)
	}
	if err != nil {
		return "", err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	return temp, discard(fsys, temp, errors.Join(err, f.Close()))
}

func inPlace(fsys FS, path string, content []byte) error {
	f, err := fsys.Open(path, ReadWrite)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
