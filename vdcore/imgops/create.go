package imgops

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// CreateOptions describe a new, empty image; see [vdcore.CreateArgs].
type CreateOptions struct {
	Capacity   int64 // bytes
	Variant    string
	BlockSize  int64     // bytes
	UUID       uuid.UUID // uuid.Nil: a random one, where the format keeps one
	Comment    string
	PCHS, LCHS vdcore.Geometry
	// Force replaces an image that is there, once the new one is whole.
	Force bool
}

// Create makes an image at path, whose extension decides the format. A file that is
// there is an fs.ErrExist, and what cannot be made a vdcore.ErrUnsupported. After an
// error, or when ctx ends, nothing is left of the new image, and what was there is as
// it was. progress counts the bytes that are preallocated.
func Create(ctx context.Context, path string, o CreateOptions, progress Progress) error {
	b, err := creator(path, 0)
	if err != nil {
		return err
	}
	return build(path, o.Force, func(path string) (err error) {
		host, err := storage.NewOS(path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, host.Close()) }()
		return create(ctx, host, b, path, o, progress)
	})
}

func create(ctx context.Context, fs storage.FS, b vdcore.Backend, path string, o CreateOptions, progress Progress) error {
	args := vdcore.CreateArgs{
		FS: fs, Path: path, Capacity: o.Capacity, Variant: o.Variant, BlockSize: o.BlockSize,
		UUID: o.UUID, Comment: o.Comment, PCHS: o.PCHS, LCHS: o.LCHS, Progress: progress,
	}
	m, err := args.Choose(b.Makes)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if args.UUID == uuid.Nil && m.Takes(vdcore.OptUUID) {
		args.UUID = uuid.New()
	}
	return b.Create(ctx, args)
}

// creator is the backend that makes images of path's extension, with all of the
// capabilities.
func creator(path string, can vdcore.Capabilities) (vdcore.Backend, error) {
	ext := strings.ToLower(filepath.Ext(path))
	var known []string
	for _, b := range vdcore.Backends() {
		if b.Create == nil || b.Capabilities()&can != can {
			continue
		}
		if slices.Contains(b.Extensions, ext) {
			return b, nil
		}
		known = append(known, b.Extensions...)
	}
	return vdcore.Backend{}, fmt.Errorf("%s: %w; it decides the format: %s", path, ErrExtension, strings.Join(known, ", "))
}

// ErrExtension: a new image's name does not say of which format it shall be.
var ErrExtension = errors.New("no image of this extension can be made")

// resolveNew makes the path of a file that need not exist absolute, its folder free
// of links.
func resolveNew(path string) (string, error) {
	dir, err := storage.Resolve(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}
