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
	temp, err := stage(fsys, path, path, content)
	if errors.Is(err, fs.ErrPermission) {
		return inPlace(fsys, path, content)
	}
	if err != nil {
		return err
	}
	if err := fsys.Replace(temp, path); err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	return nil
}

// NewFile makes a file with a content, durably and in one step: a crash leaves all
// of it or nothing. Mode and owner are those of the file at model. It fails with
// fs.ErrExist when there is a file at path.
func NewFile(fsys FS, path, model string, content []byte) error {
	temp, err := stage(fsys, path, model, content)
	if err != nil {
		return err
	}
	if err := fsys.Rename(temp, path); err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	return nil
}

// stage writes a file beside path, under a name that tells of path, so that one a
// crash has left is found and made anew. After an error there is none.
func stage(fsys FS, path, model string, content []byte) (temp string, err error) {
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
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fsys.CopyOwner(model, temp)
	}
	if err != nil {
		return "", errors.Join(err, fsys.Remove(temp))
	}
	return temp, nil
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
