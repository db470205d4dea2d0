package vdi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

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
		Create:     create,
		Makes:      makes,
		Kind:       (*writer)(nil),
		Repair:     repair,
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
	size   int64 // of the file: what entries may lead to; grows while it is written

	known    []known // what the map holds, in order of the guest, where knowsAll
	knowsAll bool
}

var (
	_ vdcore.Image        = (*image)(nil)
	_ vdcore.HeaderDumper = (*image)(nil)
	_ vdcore.Counted      = (*image)(nil)
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
		return nil, vdcore.Flaw("map-outside", fmt.Errorf("the block map ends at %d, past the end of the file at %d: %w", end, st.Size, vdcore.ErrCorrupt))
	}
	i := &image{file: args.File, tables: args.Tables, header: h, info: h.info(), size: st.Size}
	i.info.FileSize = st.Size
	if args.Shallow {
		return i, nil
	}
	found, err := i.scan()
	if err != nil {
		return nil, err
	}
	if !args.Write {
		if found.keep {
			i.known, i.knowsAll = slices.Clip(found.runs), true
		}
		return i, nil
	}
	if err := i.refuseWrite(found); err != nil {
		return nil, err
	}
	return newWriter(i, found), nil
}

func (i *image) Info() *vdcore.Info    { return &i.info }
func (i *image) Files() []storage.File { return []storage.File{i.file} }
func (i *image) Close() error          { return i.file.Close() }
func (i *image) Header() any           { return i.header }

// Stored: the map was counted when it was checked, damage apart.
func (i *image) Stored() (int64, bool) { return i.info.Allocated, len(i.info.Damage) == 0 }
