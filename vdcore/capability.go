package vdcore

import "slices"

// Capabilities of a backend, with the bits VirtualBox's plugin interface gives them.
type Capabilities uint32

const (
	CapUUID Capabilities = 1 << iota
	CapCreateFixed
	CapCreateDynamic
	CapCreateSplit
	CapDiff
	CapAsync
	CapFile
	CapConfig
	CapTCPNet
	CapVFS
	CapDiscard
	CapPreferred
)

// capabilities names the bits, lowest first.
var capabilities = []string{
	"UUID", "CREATE_FIXED", "CREATE_DYNAMIC", "CREATE_SPLIT_2G", "DIFF", "ASYNC",
	"FILE", "CONFIG", "TCPNET", "VFS", "DISCARD", "PREFERRED",
}

// Names are the interface's names.
func (c Capabilities) Names() []string {
	names := []string{}
	for i, name := range capabilities {
		if c&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Capabilities follow from what the backend makes and from the type of its images:
// nothing is declared for their sake.
func (b *Backend) Capabilities() Capabilities {
	c := CapAsync | CapFile | CapVFS // an Image is used by many goroutines, and made of storage.FS's files
	for _, m := range b.Makes {
		c |= m.capabilities()
	}
	if _, ok := b.Kind.(Writer); ok { // the chain discards in whatever it can write
		c |= CapDiscard
	}
	if vm := CapUUID | CapCreateDynamic | CapDiff; c&vm == vm { // what a virtual machine's disk needs
		c |= CapPreferred
	}
	return c
}

func (m Making) capabilities() (c Capabilities) {
	if m.Takes(OptUUID) {
		c |= CapUUID
	}
	switch {
	case m.Flags&FlagDiff != 0:
		return c | CapDiff
	case m.Flags&FlagFixed != 0:
		c |= CapCreateFixed
	default:
		c |= CapCreateDynamic
	}
	if m.Flags&FlagSplit != 0 {
		c |= CapCreateSplit
	}
	return c
}

// abilities are the optional interfaces of an image, by the words for what they do.
var abilities = []struct {
	name string
	has  func(Image) bool
}{
	{"check", is[Checker]},
	{"compact", is[Writer]}, // the chain does it, with a Compacter's help or without
	{"decode", is[Decoder]},
	{"rename", is[Renamer]},
	{"set", is[Editor]},
	{"header", is[HeaderDumper]},
	{"plain", is[Plain]},
	{"resize", is[Resizer]},
	{"write", is[Writer]},
}

func is[T any](i Image) bool { _, ok := i.(T); return ok }

// Abilities name what the backend's images can, beyond being read.
func (b *Backend) Abilities() []string {
	names := []string{}
	for _, a := range abilities {
		if b.Kind != nil && a.has(b.Kind) {
			names = append(names, a.name)
		}
	}
	if b.Create != nil {
		names = append(names, "create")
	}
	if b.Repair != nil {
		names = append(names, "repair")
	}
	slices.Sort(names)
	return names
}
