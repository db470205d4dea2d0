package vmdk

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"vdfs/vdcore"
)

// describe is the descriptor, as VirtualBox writes it. A parent is named in both
// worlds as far as it has a name there.
func (p *plan) describe() ([]byte, error) {
	base, of := filepath.Base(p.args.Path), parentWords(p.args.Parent)
	if strings.ContainsFunc(base, unquotable) || strings.ContainsFunc(of.hint, unquotable) {
		return nil, fmt.Errorf("the names %q and %q: one cannot be written into a descriptor: %w", base, of.hint, vdcore.ErrUnsupported)
	}
	comment, err := escapeComment(p.args.Comment)
	if err != nil {
		return nil, err
	}
	mod, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	cid, err := newCID(8, 0)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=%08x\n", cid, of.cid)
	if of.hint != "" {
		fmt.Fprintf(&b, "parentFileNameHint=\"%s\"\n", of.hint)
	}
	fmt.Fprintf(&b, "createType=\"%s\"\n\n# Extent description\n", p.Variant)
	for _, e := range p.extents {
		b.WriteString(e.text())
	}
	fmt.Fprintf(&b, "\n# The disk Data Base \n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.adapterType=\"%s\"\n", p.adapter())
	p.writeGeometry(&b)
	fmt.Fprintf(&b, "ddb.uuid.image=\"%s\"\nddb.uuid.modification=\"%s\"\nddb.uuid.parent=\"%s\"\nddb.uuid.parentmodification=\"%s\"\n",
		p.args.UUID, mod, of.id, of.mod)
	if comment != "" {
		fmt.Fprintf(&b, "ddb.comment=\"%s\"\n", comment)
	}
	if b.Len() > p.room() {
		return nil, fmt.Errorf("names or comment too long: the descriptor takes %d bytes, and has room for %d: %w", b.Len(), p.room(), vdcore.ErrUnsupported)
	}
	return []byte(b.String()), nil
}

// room is how long the descriptor may be.
func (p *plan) room() int {
	if p.suffix == "" {
		return newRoom * sector
	}
	return maxEdited
}

func (p *plan) adapter() string {
	if p.Flags&vdcore.FlagESX != 0 {
		return "lsilogic"
	}
	return "ide"
}

// text is the line as VirtualBox writes it: QEMU wants the offset of FLAT extents.
func (e extentLine) text() string {
	s := fmt.Sprintf("%s %d %s \"%s\"", e.Access, e.Sectors, e.Type, e.Name)
	if e.Type == typeFlat {
		s += fmt.Sprintf(" %d", e.Offset)
	}
	return s + "\n"
}

// unquotable characters would end a quoted name; there is no escape for them.
func unquotable(r rune) bool { return r == '"' || r < ' ' || r == 0x7F }

// words are what a child says of its parent.
type words struct {
	cid     uint32
	hint    string
	id, mod uuid.UUID
}

// parentWords names a parent by its UUID, for VirtualBox, and by CID and file name,
// for QEMU and VMware. One that only has a UUID is none of theirs, and a name
// alone is better than nothing: an image with a parent must not pass for a base.
func parentWords(p *vdcore.CreateParent) words {
	w := words{cid: vdcore.NoParentCID}
	if p == nil {
		return w
	}
	w.id = p.Info.UUID
	if w.id != uuid.Nil {
		w.mod = p.Info.ModUUID
	}
	if p.Info.HasCID {
		w.cid = p.Info.CID
	}
	if p.Info.HasCID || w.id == uuid.Nil {
		w.hint = p.Hint
	}
	return w
}

// writeGeometry writes what is asked for, the parent's geometry, or what is usual.
func (p *plan) writeGeometry(b *strings.Builder) {
	var of vdcore.Info
	if p.args.Parent != nil {
		of = *p.args.Parent.Info
	}
	if of.PCHS.Cylinders == 0 {
		of.PCHS = vdcore.PhysicalGeometry(p.args.Capacity)
	}
	physical, logical := cmp.Or(p.args.PCHS, of.PCHS), cmp.Or(p.args.LCHS, of.LCHS)
	put := func(key string, v uint32) { fmt.Fprintf(b, "ddb.geometry.%s=\"%d\"\n", key, v) }
	put("cylinders", physical.Cylinders)
	put("heads", physical.Heads)
	put("sectors", physical.Sectors)
	if logical.Cylinders != 0 {
		put("biosCylinders", logical.Cylinders)
		put("biosHeads", logical.Heads)
		put("biosSectors", logical.Sectors)
	}
}
