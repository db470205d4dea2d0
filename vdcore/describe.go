package vdcore

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/uuid"
)

// Description is a chain in the words of `vdfs info --json` and of a mount's
// info.json. The keys are part of the interface: add, never rename.
type Description struct {
	Image      string             `json:"image"` // the image the user named: the top of the chain
	Capacity   int64              `json:"capacity"`
	Allocated  int64              `json:"allocated"` // by the top image itself
	Incomplete bool               `json:"incomplete"`
	Layers     []LayerDescription `json:"layers"` // base first
	Warnings   []string           `json:"warnings"`
}

// LayerDescription is one image of the chain. Sizes are bytes.
type LayerDescription struct {
	Index      int                 `json:"index"`
	File       string              `json:"file"`
	Path       string              `json:"path"`
	Format     string              `json:"format"`
	Variant    string              `json:"variant,omitempty"`
	Version    string              `json:"version,omitempty"`
	Capacity   int64               `json:"capacity"`
	FileSize   int64               `json:"file_size"`
	BlockSize  int64               `json:"block_size,omitempty"`
	Allocated  int64               `json:"allocated"`
	Flags      []string            `json:"flags"`
	ImageFlags Bits                `json:"image_flags"` // the same in VirtualBox's names and numbers
	OpenFlags  Bits                `json:"open_flags"`
	Modified   string              `json:"modified,omitempty"` // when a file of the image last changed, RFC 3339, UTC
	Comment    string              `json:"comment"`
	UUIDs      IdentityDescription `json:"uuids"`
	ParentHint string              `json:"parent_hint,omitempty"`
	Geometry   GeometryDescription `json:"geometry"`
	Link       LinkDescription     `json:"link"`
	Warnings   []string            `json:"warnings"`
	Notes      []string            `json:"notes"`
	// Incomplete: the state seen from this layer lacks something, in it or below.
	Incomplete bool                `json:"incomplete,omitempty"`
	Damage     []DamageDescription `json:"damage"`
	DamageMore int64               `json:"damage_more,omitempty"` // ranges not listed
	// Snapshots of a machine whose state of the disk this layer is.
	Snapshots []SnapshotDescription `json:"snapshots,omitempty"`
}

// SnapshotDescription is a snapshot as the machine's own files tell of it.
type SnapshotDescription struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Taken       string `json:"taken,omitempty"` // RFC 3339, UTC
}

// Describe says what a snapshot is.
func (s Snapshot) Describe() SnapshotDescription {
	d := SnapshotDescription{Name: s.Name, Description: s.Description}
	if !s.Taken.IsZero() {
		d.Taken = s.Taken.UTC().Format(time.RFC3339)
	}
	return d
}

// IdentityDescription leaves out what the format does not have or the image does
// not set. CIDs are eight hexadecimal digits, as a VMDK descriptor pads them.
type IdentityDescription struct {
	Image              string `json:"image,omitempty"`
	Modification       string `json:"modification,omitempty"`
	Parent             string `json:"parent,omitempty"`
	ParentModification string `json:"parent_modification,omitempty"`
	CID                string `json:"CID,omitempty"`
	ParentCID          string `json:"parentCID,omitempty"`
}

// GeometryDescription is as stored; zero cylinders mean that none is set.
type GeometryDescription struct {
	PCHS Geometry `json:"pchs"`
	LCHS Geometry `json:"lchs"`
}

// LinkDescription is the verdict on the link to the layer below.
type LinkDescription struct {
	Verdict Verdict `json:"verdict"`
	Note    string  `json:"note,omitempty"`
}

// DamageDescription is a range of guest bytes that cannot be read.
type DamageDescription struct {
	Start  int64  `json:"start"`
	Length int64  `json:"length"`
	Reason string `json:"reason"`
}

// Describe says what the chain is made of. It reads nothing: all but the time of the
// last change was learnt when the chain was opened.
func (c *Chain) Describe() Description {
	top := c.layers[len(c.layers)-1]
	d := Description{
		Image: top.Path, Capacity: top.Info().Capacity, Allocated: top.Info().Allocated,
		Incomplete: c.Incomplete(), Warnings: list(c.warnings),
	}
	for _, l := range c.layers {
		layer := l.Describe()
		layer.Incomplete = c.IncompleteAt(l.Index)
		d.Layers = append(d.Layers, layer)
	}
	return d
}

// Describe says what one layer is.
func (l *Layer) Describe() LayerDescription {
	i := l.Info()
	d := LayerDescription{
		Index: l.Index, File: filepath.Base(l.Path), Path: l.Path,
		Format: i.Format, Variant: i.Variant, Version: i.Version,
		Capacity: i.Capacity, FileSize: i.FileSize, BlockSize: i.BlockSize, Allocated: i.Allocated,
		Flags: list(i.Flags), ImageFlags: Bits{uint32(i.ImageFlags()), i.ImageFlags().Names()},
		OpenFlags: Bits{uint32(l.OpenFlags()), l.OpenFlags().Names()}, Modified: l.modified(), Comment: i.Comment, UUIDs: i.describeIdentity(),
		Geometry: GeometryDescription{i.PCHS, i.LCHS},
		Link:     LinkDescription{l.Link.Verdict, l.Link.Note},
		Warnings: list(i.Warnings), Notes: list(i.Notes), Damage: []DamageDescription{}, DamageMore: i.DamageMore,
	}
	if i.Parent != nil {
		d.ParentHint = i.Parent.Hint
	}
	for _, x := range i.Damage {
		d.Damage = append(d.Damage, DamageDescription{x.Off, x.Len, x.Err.Error()})
	}
	for _, s := range l.Snapshots {
		d.Snapshots = append(d.Snapshots, s.Describe())
	}
	return d
}

// modified is when the newest of the image's files was changed: neither VDI nor VMDK
// keeps a time inside. "" when a file is not there any more.
func (l *Layer) modified() string {
	var newest time.Time
	for _, f := range l.Image.Files() {
		st, err := f.Stat()
		if err != nil {
			return ""
		}
		if st.Modified.After(newest) {
			newest = st.Modified
		}
	}
	if newest.IsZero() { // a file system without times
		return ""
	}
	return newest.UTC().Format(time.RFC3339)
}

func (i *Info) describeIdentity() IdentityDescription {
	d := IdentityDescription{Image: describeUUID(i.UUID), Modification: describeUUID(i.ModUUID)}
	if i.HasCID {
		d.CID, d.ParentCID = describeCID(i.CID), describeCID(i.ParentCID)
	}
	if p := i.Parent; p != nil {
		d.Parent, d.ParentModification = describeUUID(p.UUID), describeUUID(p.ModUUID)
	}
	return d
}

func describeUUID(u uuid.UUID) string {
	if u == uuid.Nil {
		return ""
	}
	return u.String()
}

func describeCID(cid uint32) string { return fmt.Sprintf("%08x", cid) }

// list makes a list that is an empty array in JSON, not null.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// Unreadable lists the ranges of the disk that are lost, joined where the reason
// is the same, at most MaxDamage of them; more counts the rest. It walks the
// whole map.
func (d *Disk) Unreadable() (ranges []DamageDescription, more int64, err error) {
	ranges = []DamageDescription{}
	var last DamageDescription
	err = d.Each(0, d.capacity, func(f Flat) bool {
		if f.Kind != Lost {
			return true
		}
		next := DamageDescription{f.Off, f.Len, d.lostBecause(f)}
		joins := next.Start == last.Start+last.Length && next.Reason == last.Reason
		switch {
		case joins && more == 0:
			ranges[len(ranges)-1].Length += f.Len
		case joins:
		case len(ranges) < MaxDamage:
			ranges = append(ranges, next)
		default:
			more++
		}
		last = next
		return true
	})
	return ranges, more, err
}

// lostBecause is the reason of lost without the range, which is the caller's to
// say.
func (d *Disk) lostBecause(f Flat) string {
	if f.Layer < 0 {
		return "the parent of " + d.chain.layers[0].Path + " is missing"
	}
	l := d.chain.layers[f.Layer]
	for _, x := range l.Info().Damage {
		if x.Off < f.End() && f.Off < x.Off+x.Len {
			return l.Path + ": " + x.Err.Error()
		}
	}
	return l.Path + ": " + ErrLost.Error()
}
