package vmdk

import (
	"bytes"

	"vdfs/vdcore"
)

func init() {
	vdcore.Register(vdcore.Backend{
		Name:       "vmdk",
		Title:      "VMware disk image",
		Extensions: []string{".vmdk"},
		Variants:   variants,
		Probe:      probe,
		Explain:    explain,
		Open:       open,
		Create:     create,
		Stream:     newStream,
		Makes:      makes(),
		Kind:       (*writer)(nil),
		Repair:     repair,
	})
}

// variants are the createTypes that are read. Other words are read as well when
// the extent lines below them can be.
var variants = []string{
	"monolithicSparse", "monolithicFlat",
	"twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "2GbMaxExtentSparse", "2GbMaxExtentFlat",
	"streamOptimized",
	"vmfs", "vmfsThin", "vmfsPreallocated", "vmfsEagerZeroedThick", "vmfsSparse", "seSparse",
	"custom",
}

// What a file of the family starts with.
var (
	hostedMagic   = []byte("KDMV")
	cowdMagic     = []byte("COWD")
	seSparseMagic = []byte{0xBE, 0xBA, 0xFE, 0xCA, 0, 0, 0, 0}
)

func probe(s vdcore.Sample) vdcore.Score {
	for _, magic := range [][]byte{hostedMagic, cowdMagic, seSparseMagic} {
		if bytes.HasPrefix(s.Head, magic) {
			return vdcore.Magic
		}
	}
	if isDescriptor(s.Head) {
		return vdcore.Magic
	}
	return vdcore.No
}

func explain(s vdcore.Sample) string {
	return pieceOf(s.Name)
}
