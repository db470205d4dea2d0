package raw

import (
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

func init() {
	vdcore.Register(vdcore.Backend{
		Name:       "raw",
		Title:      "plain disk image",
		Extensions: []string{".raw", ".img", ".dd", ".bin"},
		Variants:   []string{"raw"},
		Probe:      probe,
		Open:       open,
		Create:     create,
		Makes:      makes,
		Kind:       (*writer)(nil),
	})
}

func probe(s vdcore.Sample) vdcore.Score {
	if s.Size == 0 {
		return vdcore.No
	}
	return vdcore.Fallback
}

type image struct {
	file storage.File
	info vdcore.Info
}

func open(args vdcore.OpenArgs) (vdcore.Image, error) {
	st, err := args.File.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size == 0 {
		return nil, fmt.Errorf("the file is empty: %w", vdcore.ErrCorrupt)
	}
	i := &image{file: args.File, info: vdcore.Info{
		Format: "raw", Variant: "raw", Capacity: st.Size, FileSize: st.Size,
		Allocated: min(st.Allocated, st.Size), Flags: []string{"fixed"},
	}}
	if args.Write {
		return &writer{i}, nil
	}
	return i, nil
}

var (
	_ vdcore.Plain        = (*image)(nil)
	_ vdcore.HeaderDumper = (*image)(nil)
)

func (i *image) Info() *vdcore.Info    { return &i.info }
func (i *image) Files() []storage.File { return []storage.File{i.file} }
func (i *image) Plain() storage.File   { return i.file }
func (i *image) Close() error          { return i.file.Close() }

// Header says that there is none: all of the file is the disk.
func (i *image) Header() any {
	return struct {
		Size int64 `json:"size"`
	}{i.info.Capacity}
}

// Map tells the data from the holes of the file. What the file system cannot say
// counts as data, and what lies behind the end of a file that was cut off is lost.
func (i *image) Map(dst []vdcore.Extent, off, n int64) ([]vdcore.Extent, error) {
	st, err := i.file.Stat()
	if err != nil {
		return nil, err
	}
	end := off + n
	for inside := min(end, st.Size); off < inside; {
		data, err := i.file.NextData(off)
		if err != nil {
			return nil, err
		}
		data = min(data, inside)
		dst = vdcore.Append(dst, vdcore.Extent{Off: off, Len: data - off, Kind: vdcore.Zero})
		if off = data; off == inside {
			break
		}
		hole, err := i.file.NextHole(data)
		if err != nil {
			return nil, err
		}
		if hole = min(hole, inside); hole == data {
			hole = inside // it became a hole meanwhile: reading it says so
		}
		dst = vdcore.Append(dst, vdcore.Extent{Off: data, Len: hole - data, Kind: vdcore.Data, Pos: data})
		off = hole
	}
	return vdcore.Append(dst, vdcore.Extent{Off: off, Len: end - off, Kind: vdcore.Lost}), nil
}
