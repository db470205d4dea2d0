package imgops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Conversion says what is to be made of a disk.
type Conversion struct {
	Format   string // the backend's name; "" has the target's extension decide
	Variant  string // one of the backend's Makes; "" is the usual one
	Checksum bool   // compute the SHA-256 of the disk on the way
	// Force replaces an image that is there, once the new one is whole. One that is in
	// use, or a parent, is not replaced (vdcore.ErrInUse).
	Force bool
	// NoSync leaves it to the kernel when the new image is brought to the disk: an error
	// the disk has then shows to nobody, and a crash soon after may leave any part of it,
	// an image that opens and holds zeros where data should be included. It does not go
	// with Force (ErrUnsupported): the old image would be gone before the new one is safe.
	NoSync   bool
	Progress Progress
}

const (
	rawFormat     = "raw"
	streamVariant = "stream" // written front to back
)

// Made is an image that was made.
type Made struct {
	Path string // "" when it was written to a stream
	// Padded is how many bytes of zeros the disk is longer than its source, whose size
	// is no multiple of a sector.
	Padded int64
	SHA256 []byte // of the source disk; nil if nobody asked
}

// Convert writes the disk as the topmost image of a chain sees it to a new image,
// which needs nothing else: what reads as zeros takes no space in it. An existing
// file is never touched (fs.ErrExist). All of the image is on disk when Convert
// returns, unless o.NoSync; after an error, or when ctx ends, nothing of it is left.
func Convert(ctx context.Context, c *vdcore.Chain, path string, o Conversion) (made Made, err error) {
	if err := refuseSource(c, path); err != nil {
		return Made{}, err
	}
	if o.Force && o.NoSync {
		return Made{}, fmt.Errorf("%s: replacing an image by one that is not on disk yet: %w", path, vdcore.ErrUnsupported)
	}
	err = build(path, o.Force, func(path string) error {
		host, err := storage.NewOS(path)
		if err != nil {
			return err
		}
		made, err = convert(ctx, host, c, path, o)
		return errors.Join(err, host.Close())
	})
	made.Path = path
	return made, err
}

// convert is Convert on any file system.
func convert(ctx context.Context, fsys storage.FS, c *vdcore.Chain, path string, o Conversion) (Made, error) {
	b, err := o.backend(path)
	if err != nil {
		return Made{}, err
	}
	d := c.Top()
	m := &maker{ctx: ctx, fs: o.on(fsys), backend: b, o: o, count: &counter{total: d.Capacity(), report: o.Progress}}
	if err := m.make(d, path); err != nil {
		return Made{}, errors.Join(err, m.remove())
	}
	return m.made[0], nil
}

// ConvertTo writes the disk to a stream, in a form that is written front to back: as it
// is, zeros included, or as an image of variant "stream".
func ConvertTo(ctx context.Context, c *vdcore.Chain, w io.Writer, o Conversion) (Made, error) {
	b, err := vdcore.Lookup(o.Format)
	if err != nil {
		return Made{}, err
	}
	d := c.Top()
	count := &counter{total: d.Capacity(), report: o.Progress}
	if b.Name == rawFormat && o.Variant == "" {
		t := newTransfer(d, plainStream{w}, count, o.Checksum)
		err := t.run(ctx)
		return Made{SHA256: t.checksum()}, err
	}
	if o.Variant != streamVariant || b.Stream == nil {
		return Made{}, fmt.Errorf("a %s image cannot be written front to back: %w; raw can, and vmdk of variant %s", b.Name, vdcore.ErrUnsupported, streamVariant)
	}
	m := &maker{ctx: ctx, backend: b, o: o}
	args, err := m.args(d, c.Top().Layer().Name()+b.Extensions[0], nil)
	if err != nil {
		return Made{}, err
	}
	sum, err := packTo(ctx, b, d, w, args, count, o.Checksum)
	return Made{SHA256: sum, Padded: args.Capacity - d.Capacity()}, err
}

// on is the file system the new image is made on.
func (o *Conversion) on(host storage.FS) storage.FS {
	if o.NoSync {
		return storage.Unsynced(host)
	}
	return host
}

// backend is the format a new image shall have.
func (o *Conversion) backend(path string) (vdcore.Backend, error) {
	if o.Format != "" {
		return vdcore.Lookup(o.Format)
	}
	return creator(path, 0)
}

// refuseSource says so when a new image has the name of one of the files it is made
// from. Creating it would fail anyway.
func refuseSource(c *vdcore.Chain, path string) error {
	real, err := storage.Resolve(path)
	if err != nil {
		return nil // not there
	}
	for _, l := range c.Layers() {
		if l.Path == real || slices.ContainsFunc(l.Image.Files(), func(f storage.File) bool { return f.Path() == real }) {
			return fmt.Errorf("%s: %w, and part of the source", path, fs.ErrExist)
		}
	}
	return nil
}

// sectorSize is what the capacity of an image is a multiple of, bytes.
const sectorSize = 512
