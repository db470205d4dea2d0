package vmdk

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore"
)

// deviceTypes are createTypes that stand for a host device or a LUN.
var deviceTypes = []string{
	"fulldevice", "partitioneddevice",
	"vmfsraw", "vmfsrdm", "vmfsrawdevicemap", "vmfsrdmp", "vmfspassthroughrawdevicemap",
}

// info is what the text alone says of the image.
func (d *descriptor) info() (vdcore.Info, error) {
	i := vdcore.Info{Format: "vmdk"}
	for _, step := range []func(*vdcore.Info) error{d.contradiction, d.kind, d.size, d.identity, d.parent} {
		if err := step(&i); err != nil {
			return i, err
		}
	}
	d.flags(&i)
	i.Comment = unescape(d.text("ddb.comment"))
	i.PCHS = d.geometry("cylinders", "heads", "sectors", 16)
	if i.PCHS == (vdcore.Geometry{}) { // VirtualBox's word for "not set"
		i.PCHS = vdcore.Geometry{Heads: 16, Sectors: 63}
	}
	i.LCHS = d.geometry("bioscylinders", "biosheads", "biossectors", 255)
	if v, _ := d.get("isNativeSnapshot"); strings.EqualFold(v, "yes") {
		i.Warn("a snapshot kept by the storage vendor (isNativeSnapshot=yes); what the array holds is not seen here")
	}
	for _, key := range d.repeated {
		i.Warn(fmt.Sprintf("the descriptor sets %.60q twice; the first value is used", key))
	}
	return i, nil
}

// text returns a setting that outlives the descriptor. Whoever keeps an Info, an
// index of many files above all, must not keep a megabyte of text with it.
func (d *descriptor) text(key string) string {
	v, _ := d.get(key)
	return strings.Clone(v)
}

// identityKeys decide which image is whose parent.
var identityKeys = []string{"cid", "parentcid", "parentfilenamehint", "ddb.uuid.image", "ddb.uuid.parent"}

// contradiction refuses a text that gives an identity twice: whichever were taken,
// the chain could be another disk's.
func (d *descriptor) contradiction(*vdcore.Info) error {
	for _, key := range d.repeated {
		if slices.Contains(identityKeys, strings.ToLower(key)) {
			return fmt.Errorf("the descriptor sets %s twice, to different values: %w", key, vdcore.ErrCorrupt)
		}
	}
	return nil
}

// kind reads version and createType and refuses what they rule out.
func (d *descriptor) kind(i *vdcore.Info) error {
	i.Version = d.text("version")
	switch i.Version {
	case "1", "":
	case "2", "3":
		i.Warn("descriptor version " + i.Version + " is read as version 1")
	default:
		return fmt.Errorf("unknown version %.30q of the descriptor: %w", i.Version, vdcore.ErrUnsupported)
	}
	i.Variant = d.text("createType")
	if slices.Contains(deviceTypes, strings.ToLower(i.Variant)) {
		return fmt.Errorf("createType %q stands for a host device or a raw LUN: %w", i.Variant, vdcore.ErrUnsupported)
	}
	if !slices.ContainsFunc(variants, func(v string) bool { return strings.EqualFold(v, i.Variant) }) {
		i.Warn(fmt.Sprintf("createType %.60q is not known; the extent lines decide", i.Variant))
	}
	return d.encryption()
}

// encryption refuses VMware's encrypted disks: their extents look like any other.
func (d *descriptor) encryption() error {
	for _, s := range d.Settings {
		if strings.HasPrefix(s.folded, "encryption") || strings.Contains(s.folded, "keysafe") ||
			s.folded == "ddb.iofilters" && strings.Contains(strings.ToLower(s.Value), "crypt") {
			return fmt.Errorf("the disk is encrypted (%.60s): %w", s.Key, vdcore.ErrUnsupported)
		}
	}
	return nil
}

func (d *descriptor) size(i *vdcore.Info) error {
	if len(d.Extents) == 0 {
		return fmt.Errorf("the descriptor has no extents: %w", vdcore.ErrCorrupt)
	}
	var sectors int64
	for _, e := range d.Extents {
		if sectors += e.Sectors; sectors > maxSectors {
			return fmt.Errorf("extent size: together the extents are over %d sectors: %w", int64(maxSectors), vdcore.ErrCorrupt)
		}
	}
	i.Capacity = sectors * sector
	return nil
}

func (d *descriptor) identity(i *vdcore.Info) error {
	if v, ok := d.get("CID"); ok {
		cid, err := parseCID(v)
		if err != nil {
			i.Warn(fmt.Sprintf("CID %.30q is no hexadecimal number", v))
		}
		i.CID, i.HasCID = cid, err == nil
	}
	var err error
	if i.UUID, err = d.uuid("ddb.uuid.image"); err != nil {
		i.Warn(err.Error())
	}
	if i.ModUUID, err = d.uuid("ddb.uuid.modification"); err != nil {
		i.Warn(err.Error())
	}
	return nil
}

// parent reads both worlds' words for it. VirtualBox leaves parentCID at "none",
// VMware and QEMU know no UUIDs; where both are set the UUID is the stronger one.
// An image with a parent's name and no identity for it is no base: its free grains
// are not zeros. Its reference fits nothing until the user says what it means.
func (d *descriptor) parent(i *vdcore.Info) error {
	id, err := d.uuid("ddb.uuid.parent")
	if err != nil {
		return fmt.Errorf("%w: %w", err, vdcore.ErrCorrupt)
	}
	cid := uint32(vdcore.NoParentCID)
	if v, ok := d.get("parentCID"); ok {
		if cid, err = parseCID(v); err != nil {
			return fmt.Errorf("parentCID %.30q is no hexadecimal number: %w", v, vdcore.ErrCorrupt)
		}
	}
	i.ParentCID = cid
	hint := d.text("parentFileNameHint")
	if id == uuid.Nil && cid == vdcore.NoParentCID && strings.TrimSpace(hint) == "" {
		return nil
	}
	i.Parent = &vdcore.ParentRef{UUID: id, Hint: hint}
	if id == uuid.Nil {
		i.Parent.CID = cid
		return nil
	}
	if i.Parent.ModUUID, err = d.uuid("ddb.uuid.parentmodification"); err != nil {
		i.Warn(err.Error())
	}
	return nil
}

// uuid returns uuid.Nil for a key that is absent, empty or null.
func (d *descriptor) uuid(key string) (uuid.UUID, error) {
	v, _ := d.get(key)
	if v == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(v)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%s %.60q is no UUID", key, v)
	}
	return id, nil
}

// parseCID reads a content id; it need not have eight digits.
func parseCID(v string) (uint32, error) {
	n, err := strconv.ParseUint(v, 16, 32)
	return uint32(n), err
}

// geometry reads three settings; zero unless all of them make sense, as VirtualBox
// treats them.
func (d *descriptor) geometry(cylinders, heads, sectors string, maxHeads uint32) vdcore.Geometry {
	g := vdcore.Geometry{
		Cylinders: d.number("ddb.geometry." + cylinders),
		Heads:     d.number("ddb.geometry." + heads),
		Sectors:   d.number("ddb.geometry." + sectors),
	}
	if g.Cylinders == 0 || g.Heads == 0 || g.Heads > maxHeads || g.Sectors == 0 || g.Sectors > 63 {
		return vdcore.Geometry{}
	}
	return g
}

func (d *descriptor) number(key string) uint32 {
	v, _ := d.get(key)
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// flags names the image's traits.
func (d *descriptor) flags(i *vdcore.Info) {
	kind := strings.ToLower(i.Variant)
	is := func(flag string, yes bool) {
		if yes {
			i.Flags = append(i.Flags, flag)
		}
	}
	is("differencing", i.Parent != nil)
	is("fixed", d.fixed())
	is("split", strings.HasPrefix(kind, "twogbmaxextent") || strings.HasPrefix(kind, "2gbmaxextent"))
	is("stream-optimized", kind == "streamoptimized")
	is("esx", strings.HasPrefix(kind, "vmfs") || kind == "sesparse")
}

// fixed: every byte of the disk has its place in a file, or none ever.
func (d *descriptor) fixed() bool {
	flat := 0
	for _, e := range d.Extents {
		switch {
		case e.flat():
			flat++
		case e.Type != typeZero:
			return false
		}
	}
	return flat > 0
}

// unescape undoes VirtualBox's escaping of a comment.
func unescape(v string) string {
	return unescaper.Replace(v)
}

var unescaper = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r")
