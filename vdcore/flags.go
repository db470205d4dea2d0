package vdcore

import "slices"

// ImageFlags are the traits of an image with the values VirtualBox's plugin interface
// gives them.
type ImageFlags uint32

const (
	FlagSplit      ImageFlags = 0x1   // VMDK: pieces of at most 2 GiB
	FlagRawDisk    ImageFlags = 0x2   // VMDK: a host device; never opened
	FlagStream     ImageFlags = 0x4   // VMDK: compressed, for transport
	FlagESX        ImageFlags = 0x8   // VMDK: of VMware ESX
	FlagZeroExpand ImageFlags = 0x100 // VDI: new blocks read as zeros
	FlagFixed      ImageFlags = 0x10000
	FlagDiff       ImageFlags = 0x20000
)

// imageFlags joins the interface's names to this program's words, in Info.Flags.
var imageFlags = []struct {
	flag       ImageFlags
	name, word string
}{
	{FlagSplit, "SPLIT_2G", "split"},
	{FlagRawDisk, "RAWDISK", "raw-disk"},
	{FlagStream, "STREAM_OPTIMIZED", "stream-optimized"},
	{FlagESX, "ESX", "esx"},
	{FlagZeroExpand, "ZERO_EXPAND", "zero-expand"},
	{FlagFixed, "FIXED", "fixed"},
	{FlagDiff, "DIFF", "differencing"},
}

// ImageFlags are Flags in the interface's numbers.
func (i *Info) ImageFlags() (flags ImageFlags) {
	for _, f := range imageFlags {
		if slices.Contains(i.Flags, f.word) {
			flags |= f.flag
		}
	}
	return flags
}

// Names are the interface's names of the flags that are set; an image with none is a
// standard one.
func (f ImageFlags) Names() []string {
	names := []string{}
	for _, known := range imageFlags {
		if f&known.flag != 0 {
			names = append(names, known.name)
		}
	}
	return names
}

// OpenFlags say how an image was opened, with the interface's values.
type OpenFlags uint32

const (
	OpenReadOnly OpenFlags = 1 << 0
	OpenDiscard  OpenFlags = 1 << 7 // writable images are always opened for discarding
)

// OpenFlags of the layer.
func (l *Layer) OpenFlags() OpenFlags {
	if _, written := l.Image.(Writer); written {
		return OpenDiscard
	}
	return OpenReadOnly
}

// Names are the interface's names.
func (f OpenFlags) Names() []string {
	if f == OpenDiscard {
		return []string{"DISCARD"}
	}
	return []string{"READONLY"}
}

// Bits is a set of flags for JSON: their sum and their names.
type Bits struct {
	Value uint32   `json:"value"`
	Names []string `json:"names"`
}
