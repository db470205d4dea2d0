package vdcore

import (
	"slices"

	"github.com/google/uuid"
)

// Info is what an image says of itself. It does not change while the image is
// open for reading. Sizes are bytes.
type Info struct {
	Format   string // the backend's name
	Variant  string // the format's own word: "dynamic", "monolithicSparse", …
	Version  string
	Capacity int64 // of the virtual disk
	FileSize int64 // of all the image's files together
	// BlockSize is the unit of allocation; 0 when the image has none (flat).
	BlockSize int64
	// Allocated is how many guest bytes the image holds itself.
	Allocated int64
	Flags     []string // image flags by name: "fixed", "differencing", "zero-expand" …
	Comment   string

	Identity
	// Parent is nil for a base image.
	Parent *ParentRef

	PCHS, LCHS Geometry // zero when unset

	// Warnings are oddities that do not stop reading, Notes what is common and
	// harmless and still worth knowing. One sentence each.
	Warnings []string
	Notes    []string
	// Damage lists the ranges the image cannot give back, in order, joined, at
	// most MaxDamage of them; DamageMore counts the rest.
	Damage     []Damage
	DamageMore int64
}

// MaxCapacity is the largest disk that is opened, bytes: 4 EiB, beyond what any
// format here can hold, and far from overflowing an int64.
const MaxCapacity = 1 << 62

// MaxDamage bounds Info.Damage.
const MaxDamage = 1000

// Identity is how children name an image.
type Identity struct {
	UUID    uuid.UUID // uuid.Nil when the format or the tool gives none
	ModUUID uuid.UUID // changes with the content
	CID     uint32    // VMDK content id; meaningful when HasCID
	HasCID  bool
	// ParentCID is the stored parentCID, NoParentCID for none; with HasCID.
	ParentCID uint32
}

// NoParentCID is the parentCID of an image without a parent, or of one that names
// it by UUID only.
const NoParentCID = 0xFFFFFFFF

// ParentRef is what a child recorded of its parent.
type ParentRef struct {
	UUID    uuid.UUID // uuid.Nil: the parent is named by CID
	ModUUID uuid.UUID // uuid.Nil: not recorded
	CID     uint32
	Hint    string // file name as stored; untrusted
}

// Geometry is cylinders, heads, sectors.
type Geometry struct {
	Cylinders uint32 `json:"cylinders"`
	Heads     uint32 `json:"heads"`
	Sectors   uint32 `json:"sectors"`
}

// Damage is one range an image cannot give back, and why. Err wraps one of this
// package's sentinels: ErrMissing for an absent file, ErrUnsupported for what the
// image itself bars from reading, ErrCorrupt otherwise.
type Damage struct {
	Off, Len int64
	Err      error
}

// AddDamage notes a lost range, joining it with the one before when the cause
// reads the same.
func (i *Info) AddDamage(off, n int64, err error) {
	if k := len(i.Damage); k > 0 {
		last := &i.Damage[k-1]
		if last.Off+last.Len == off && (last.Err == err || last.Err.Error() == err.Error()) {
			last.Len += n
			return
		}
	}
	if len(i.Damage) >= MaxDamage {
		i.DamageMore++
		return
	}
	i.Damage = append(i.Damage, Damage{off, n, err})
}

// Warn notes an oddity once.
func (i *Info) Warn(sentence string) { i.Warnings = addOnce(i.Warnings, sentence) }

// Note notes something harmless once.
func (i *Info) Note(sentence string) { i.Notes = addOnce(i.Notes, sentence) }

func addOnce(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
