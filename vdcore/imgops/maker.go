package imgops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// maker makes images, and removes them again.
type maker struct {
	ctx     context.Context
	fs      storage.FS
	backend vdcore.Backend
	o       Conversion
	count   *counter

	made  []Made
	files []string // that were created, the one that names the others first
}

// make makes an image of all of a disk.
func (m *maker) make(d *vdcore.Disk, path string) error {
	args, err := m.args(d, path, nil)
	if err != nil {
		return err
	}
	made := Made{Path: path, Padded: args.Capacity - d.Capacity()}
	if m.o.Variant == streamVariant && m.backend.Stream != nil {
		made.SHA256, err = m.packed(d, args)
	} else {
		made.SHA256, _, err = m.image(d, args)
	}
	m.made = append(m.made, made)
	return err
}

// args describe an image that can take a disk, and says of itself what the disk's
// layer does, as far as it can.
func (m *maker) args(d *vdcore.Disk, path string, parent *vdcore.CreateParent) (vdcore.CreateArgs, error) {
	args := vdcore.CreateArgs{FS: m.fs, Path: path, Capacity: d.Capacity(), Variant: m.o.Variant, Parent: parent, Progress: m.o.Progress}
	if m.backend.Create == nil {
		return args, fmt.Errorf("%s: new %s images: %w", path, m.backend.Name, vdcore.ErrUnsupported)
	}
	kind, err := args.Choose(m.backend.Makes)
	if err != nil {
		return args, fmt.Errorf("%s: %w", path, err)
	}
	if m.backend.Name != rawFormat {
		args.Capacity = (args.Capacity + sectorSize - 1) / sectorSize * sectorSize
	}
	if kind.Takes(vdcore.OptUUID) {
		args.UUID = uuid.New()
	}
	info := d.Layer().Info()
	for _, keep := range []func(a *vdcore.CreateArgs){
		func(a *vdcore.CreateArgs) { a.Comment = info.Comment },
		func(a *vdcore.CreateArgs) { a.PCHS = info.PCHS },
		func(a *vdcore.CreateArgs) { a.LCHS = info.LCHS },
	} {
		with := args
		if keep(&with); len(with.Comment) > maxComment {
			continue
		}
		if _, err := with.Choose(m.backend.Makes); err == nil {
			args = with
		}
	}
	return args, nil
}

// maxComment is what every format takes, bytes.
const maxComment = 255

// packed makes an image front to back.
func (m *maker) packed(d *vdcore.Disk, args vdcore.CreateArgs) (sum []byte, err error) {
	f, err := m.create(args.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = m.close(f, err) }()
	return packTo(m.ctx, m.backend, d, &appender{file: f}, args, m.count, m.o.Checksum)
}

// packTo writes an image front to back.
func packTo(ctx context.Context, b vdcore.Backend, d *vdcore.Disk, w io.Writer, args vdcore.CreateArgs, count *counter, checksum bool) ([]byte, error) {
	s, err := b.Stream(w, args)
	if err != nil {
		return nil, err
	}
	t := newTransfer(d, packedSink{s}, count, checksum)
	if err := t.run(ctx); err != nil {
		return nil, err
	}
	return t.checksum(), s.Close()
}

// appender writes to a file front to back.
type appender struct {
	file storage.File
	pos  int64
}

func (a *appender) Write(p []byte) (int, error) {
	n, err := a.file.WriteAt(p, a.pos)
	a.pos += int64(n)
	return n, err
}

// image makes an image that is allocated, of all of a disk or, with a parent, of what
// the disk's own layer holds. It returns what a child has to know of it.
func (m *maker) image(d *vdcore.Disk, args vdcore.CreateArgs) (sum []byte, info *vdcore.Info, err error) {
	before, err := m.pieces(args.Path)
	if err != nil {
		return nil, nil, err
	}
	if err := m.backend.Create(m.ctx, args); err != nil {
		return nil, nil, err
	}
	m.files = append(m.files, args.Path)
	after, err := m.pieces(args.Path)
	if err != nil {
		return nil, nil, err
	}
	for _, path := range after {
		if !slices.Contains(before, path) {
			m.files = append(m.files, path)
		}
	}
	// What names a new image as its parent already meant another one of that name.
	c, err := vdcore.OpenFS(m.fs, args.Path, vdcore.Options{Format: m.backend.Name, Write: true, BreakChildren: true})
	if err != nil {
		return nil, nil, err
	}
	sum, err = m.fill(c, d, args.Parent != nil)
	return sum, c.Top().Layer().Info(), errors.Join(err, c.Close())
}

// pieces lists the files beside path that are named as its extents are.
func (m *maker) pieces(path string) (list []string, err error) {
	names, err := m.fs.List(filepath.Dir(path))
	if errors.Is(err, storage.ErrTooMany) {
		err = nil
	}
	for _, name := range names {
		if file := filepath.Join(filepath.Dir(path), name); pieceOf(path, file) != "" {
			list = append(list, file)
		}
	}
	return list, err
}

// fill brings a disk, or what its own layer holds, to the topmost image of a chain.
func (m *maker) fill(c *vdcore.Chain, d *vdcore.Disk, own bool) ([]byte, error) {
	f, err := c.Fill()
	if err != nil {
		return nil, err
	}
	t := newTransfer(d, sparseSink{f}, m.count, m.o.Checksum)
	if m.backend.Name == rawFormat {
		release, err := t.share(f)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	if own {
		t = newTransfer(d, childSink{f, f.Unit(0).Len}, m.count, false)
		t.feed = func(f *feeder) error { return f.own(d.Layer()) }
	}
	if err := t.run(m.ctx); err != nil {
		return nil, err
	}
	return t.checksum(), f.Finish()
}

// share has a plain disk share blocks with the image files, where the file system can,
// instead of copying them. Zeros stored in such blocks stay stored.
func (t *transfer) share(to *vdcore.Filler) (release func(), err error) {
	file, _, _, err := to.Place(0)
	if err != nil {
		return nil, err
	}
	fd, release, err := file.Pin()
	if err != nil { // a file without a descriptor
		return func() {}, nil
	}
	clone := newCloner(fd)
	t.feed = func(f *feeder) error {
		return f.whole(t.disk, func(x vdcore.Flat) (from, to int64) { return clone.share(t.disk, x) })
	}
	return release, nil
}

// create makes a file.
func (m *maker) create(path string) (storage.File, error) {
	f, err := m.fs.Open(path, storage.Create)
	if err == nil {
		m.files = append(m.files, path)
	}
	return f, err
}

// close ends a file that was made, which is on disk then unless something went wrong.
func (m *maker) close(f storage.File, err error) error {
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = m.fs.SyncDir(filepath.Dir(f.Path()))
	}
	return err
}

// remove takes away everything that was made.
func (m *maker) remove() error {
	var errs []error
	for _, path := range m.files {
		if err := m.fs.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
