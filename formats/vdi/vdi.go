package vdi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

func init() {
	vdcore.Register(vdcore.Backend{
		Name:       "vdi",
		Title:      "VirtualBox disk image",
		Extensions: []string{".vdi"},
		Variants:   []string{"dynamic", "fixed", "differencing"},
		Probe:      probe,
		Open:       open,
	})
}

func probe(s vdcore.Sample) vdcore.Score {
	if len(s.Head) >= sigOffset+4 && binary.LittleEndian.Uint32(s.Head[sigOffset:]) == signature {
		return vdcore.Magic
	}
	return vdcore.No
}

type image struct {
	file   storage.File
	tables *vdcore.Tables
	header *header
	info   vdcore.Info
}

var (
	_ vdcore.Image        = (*image)(nil)
	_ vdcore.HeaderDumper = (*image)(nil)
)

func open(args vdcore.OpenArgs) (vdcore.Image, error) {
	head := make([]byte, headerRead)
	n, err := args.File.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, err := parseHeader(head[:n])
	if err != nil {
		return nil, err
	}
	st, err := args.File.Stat()
	if err != nil {
		return nil, err
	}
	if end := h.OffMap + 4*uint64(h.Blocks); end > uint64(st.Size) {
		return nil, fmt.Errorf("the block map ends at %d, past the end of the file at %d: %w", end, st.Size, vdcore.ErrCorrupt)
	}
	i := &image{file: args.File, tables: args.Tables, header: h, info: h.info()}
	i.info.FileSize = st.Size
	if args.Shallow {
		return i, nil
	}
	return i, i.scan()
}

func (i *image) Info() *vdcore.Info    { return &i.info }
func (i *image) Files() []storage.File { return []storage.File{i.file} }
func (i *image) Close() error          { return i.file.Close() }
func (i *image) Header() any           { return i.header }
