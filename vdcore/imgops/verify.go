package imgops

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Verified are the files of a chain that were compared with a manifest.
type Verified struct {
	Files []VerifiedFile
	image *ManifestImage
	stats map[string]storage.Stat // of the files, by path
}

// VerifiedFile is what became of one file.
type VerifiedFile struct {
	File string // as the manifest has it
	Path string
	Err  error // nil: it is as it was
}

// Err is what is wrong with all of them together: errors that wrap ErrManifest, or
// vdcore.ErrMissing, and name the file.
func (v *Verified) Err() error {
	var errs []error
	for _, f := range v.Files {
		errs = append(errs, f.Err)
	}
	return errors.Join(errs...)
}

// Verify compares every file that a manifest has of the image at path with what is
// there, by size and by all hashes that are known. It opens no image, so whatever was
// done to a file, it is the file that is named. Its own error is one of reading, or of
// ctx; what differs is in the result.
func Verify(ctx context.Context, m *Manifest, path string, o vdcore.Options, progress Progress) (v *Verified, err error) {
	host, real, err := o.Host(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	image, err := m.of(real)
	if err != nil {
		return nil, err
	}
	v = &Verified{image: image, stats: map[string]storage.Stat{}}
	return v, v.run(ctx, host, filepath.Dir(real), progress)
}

func (v *Verified) run(ctx context.Context, fsys storage.FS, folder string, progress Progress) (err error) {
	var names []string
	var list []*content
	for _, f := range v.image.files() {
		path := filepath.Join(folder, filepath.FromSlash(f.File))
		file, err := v.open(fsys, f, path)
		v.Files = append(v.Files, VerifiedFile{File: f.File, Path: path, Err: err})
		if err != nil {
			continue
		}
		defer file.Close()
		list = append(list, fileContent(file, f.Size))
		names = append(names, f.Digests.known()...)
	}
	slices.Sort(names)
	if err := hashAll(ctx, list, slices.Compact(names), progress); err != nil {
		return err
	}
	for i, f := range v.image.files() {
		if checked := &v.Files[i]; checked.Err == nil {
			checked.Err = f.Digests.differ(checked.Path, list[0].sums)
			list = list[1:]
		}
	}
	return nil
}

// open opens a file that is as long as it was.
func (v *Verified) open(fsys storage.FS, f *ManifestFile, path string) (storage.File, error) {
	file, err := fsys.Open(path, storage.ReadOnly)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w, and in the manifest", path, vdcore.ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	st, err := storage.Opened(file)
	if err == nil && st.Size != f.Size {
		err = fmt.Errorf("%s: %w: it has %d bytes and had %d", path, ErrManifest, st.Size, f.Size)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	v.stats[path] = st
	return file, nil
}

// differ says which of the digests are not those found.
func (d Digests) differ(name string, found Digests) error {
	for _, n := range d.known() {
		if d[n] != found[n] {
			return fmt.Errorf("%s: %w: its %s is %s and was %s", name, ErrManifest, n, found[n], d[n])
		}
	}
	return nil
}

// Opened fails unless layers that were opened since, base first, consist of the files
// that were verified, all of them and no others, untouched, read as the same formats.
func (v *Verified) Opened(layers []*vdcore.Layer) error {
	if n := len(layers); n != len(v.image.Layers) {
		return fmt.Errorf("%s: %w: it has %d layers and had %d", layers[n-1].Path, ErrManifest, n, len(v.image.Layers))
	}
	for i, l := range layers {
		if f := v.image.Layers[i].Format; l.Info().Format != f {
			return fmt.Errorf("%s: %w: it was opened as %s and not as %s", l.Path, ErrManifest, l.Info().Format, f)
		}
		if len(l.Image.Files()) != len(v.image.Layers[i].Files) {
			return fmt.Errorf("%s: %w: it has %d files and had %d", l.Path, ErrManifest, len(l.Image.Files()), len(v.image.Layers[i].Files))
		}
		for _, f := range l.Image.Files() {
			if err := v.opened(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *Verified) opened(f storage.File) error {
	was, ok := v.stats[f.Path()]
	if !ok {
		return fmt.Errorf("%s: %w, which does not have this file", f.Path(), ErrManifest)
	}
	st, err := storage.Opened(f)
	if err == nil && !st.Same(was) {
		err = fmt.Errorf("%s: changed since it was compared with the manifest: %w", f.Path(), storage.ErrChanged)
	}
	return err
}

// VerifyDisks compares the flat disks a manifest has of a verified chain with what is
// read now.
func (v *Verified) VerifyDisks(ctx context.Context, c *vdcore.Chain, progress Progress) error {
	var names []string
	var list []*content
	var want []Digests
	for i, l := range v.image.Layers {
		if known := l.Disk.known(); len(known) > 0 {
			list, want, names = append(list, diskContent(c.Disk(i))), append(want, l.Disk), append(names, known...)
		}
	}
	slices.Sort(names)
	if err := hashAll(ctx, list, slices.Compact(names), progress); err != nil {
		return err
	}
	var errs []error
	for i, d := range list {
		errs = append(errs, want[i].differ(d.name, d.sums))
	}
	return errors.Join(errs...)
}
