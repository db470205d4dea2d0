package vmdk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	// maxComment is how long an escaped comment may be, bytes: VirtualBox's buffer
	// without the NUL.
	maxComment = 1023
	// maxEdited is what VirtualBox reads of a descriptor file, bytes.
	maxEdited = 128 << 10
)

var (
	_ vdcore.Editor  = (*image)(nil)
	_ vdcore.Renamer = (*image)(nil)
)

// Edit changes the descriptor: values where they are, what is missing where it
// belongs, nothing else.
func (i *image) Edit(fsys storage.FS, e vdcore.Edit) error {
	if i.packed() {
		return fmt.Errorf("a streamOptimized image cannot be changed in place, only be written anew: %w", vdcore.ErrUnsupported)
	}
	old, err := i.currentText()
	if err != nil {
		return err
	}
	text, err := edited(old, e)
	if err != nil {
		return err
	}
	if i.own != nil {
		return i.putEmbedded(fsys, old, text)
	}
	if len(text) > maxEdited && len(text) > len(old) {
		return fmt.Errorf("the descriptor would have %d bytes, and VirtualBox reads %d: %w", len(text), maxEdited, vdcore.ErrUnsupported)
	}
	return storage.Overwrite(fsys, i.files[0].Path(), text)
}

// packed reports whether the descriptor lies in front of compressed grains.
func (i *image) packed() bool { return i.own != nil && i.own.Flags&flagPacked != 0 }

// currentText is the descriptor as it is on disk, up to its end.
func (i *image) currentText() ([]byte, error) {
	st, err := i.files[0].Stat()
	if err != nil {
		return nil, err
	}
	n := st.Size
	if i.own != nil {
		n = int64(i.own.DescriptorSize) * sector
	}
	text := make([]byte, min(n, maxText))
	if err := storage.ReadFull(i.files[0], text, i.textAt); err != nil {
		return nil, err
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	return text, nil
}

// edited is a descriptor with the changes. It must still be one.
func edited(text []byte, e vdcore.Edit) ([]byte, error) {
	t := &editor{text: bytes.Clone(text)}
	t.comment(e.Comment)
	t.uuids(e)
	if name := e.ParentFile; name != nil {
		t.name("parentFileNameHint", *name)
	}
	t.geometry(e.PCHS, "cylinders", "heads", "sectors")
	t.geometry(e.LCHS, "biosCylinders", "biosHeads", "biosSectors")
	if t.err == nil {
		var d *descriptor
		if d, t.err = parseDescriptor(t.text); t.err == nil {
			_, t.err = d.info()
		}
	}
	return t.text, t.err
}

// editor changes a descriptor's text, until the first error.
type editor struct {
	text []byte
	err  error
}

// foreignLetters refuses letters of which a descriptor in another encoding says
// something else.
func (t *editor) foreignLetters(what, s string) error {
	d, err := parseDescriptor(t.text)
	if err != nil {
		return err
	}
	encoding, _ := d.get("encoding")
	ascii := !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
	switch {
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is not text in UTF-8: %w", what, vdcore.ErrUnsupported)
	case !ascii && encoding != "" && !strings.EqualFold(encoding, "UTF-8"):
		return fmt.Errorf("%s has letters that cannot be written into a descriptor in %.30q: %w", what, encoding, vdcore.ErrUnsupported)
	}
	return nil
}

var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`)

func (t *editor) comment(c *string) {
	if c == nil || t.err != nil {
		return
	}
	if t.err = t.foreignLetters("the comment", *c); t.err != nil {
		return
	}
	escaped, err := escapeComment(*c)
	if t.err = err; err == nil {
		t.set("ddb.comment", escaped)
	}
}

// escapeComment writes a comment as VirtualBox does.
func escapeComment(c string) (string, error) {
	escaped := escape.Replace(c)
	switch {
	case !utf8.ValidString(c):
		return "", fmt.Errorf("the comment is not text in UTF-8: %w", vdcore.ErrUnsupported)
	case strings.ContainsAny(c, "\"\x00"):
		return "", fmt.Errorf("the comment has a double quote or a NUL, which a VMDK cannot hold: VirtualBox would cut it off there: %w", vdcore.ErrUnsupported)
	case len(escaped) > maxComment:
		return "", fmt.Errorf("the comment has %d bytes in UTF-8, backslashes and line ends counted twice, and a VMDK holds %d: %w", len(escaped), maxComment, vdcore.ErrUnsupported)
	}
	return escaped, nil
}

// uuids sets those that are named. An image that VirtualBox has never written gets
// all its keys at once, as from VirtualBox; without a UUID of its own it is none.
func (t *editor) uuids(e vdcore.Edit) {
	keys := []struct {
		key string
		id  *uuid.UUID
	}{
		{"ddb.uuid.image", e.UUID}, {"ddb.uuid.modification", e.ModUUID},
		{"ddb.uuid.parent", e.ParentUUID}, {"ddb.uuid.parentmodification", e.ParentModUUID},
	}
	for _, k := range keys {
		switch {
		case k.id != nil:
			t.set(k.key, k.id.String())
		case e.UUID != nil && !t.has(k.key):
			t.set(k.key, uuid.Nil.String())
		}
	}
}

func (t *editor) geometry(g *vdcore.Geometry, cylinders, heads, sectors string) {
	if g == nil {
		return
	}
	for k, v := range []uint32{g.Cylinders, g.Heads, g.Sectors} {
		t.set("ddb.geometry."+[]string{cylinders, heads, sectors}[k], strconv.FormatUint(uint64(v), 10))
	}
}

// name sets a file name, for which there is no escape.
func (t *editor) name(key, name string) {
	if t.err != nil {
		return
	}
	if t.err = t.foreignLetters("the file name", name); t.err == nil && (name == "" || strings.ContainsFunc(name, unquotable)) {
		t.err = fmt.Errorf("the file name %q cannot be written into a descriptor: %w", name, vdcore.ErrUnsupported)
	}
	t.set(key, name)
}

func (t *editor) has(key string) bool {
	d, err := parseDescriptor(t.text)
	if err != nil {
		t.err = errors.Join(t.err, err)
		return false
	}
	return d.count(key) > 0
}

// set replaces the value of a key wherever it is set, in quotes as every tool
// writes it, or adds the key.
func (t *editor) set(key, value string) {
	if t.err != nil {
		return
	}
	d, err := parseDescriptor(t.text)
	if err != nil {
		t.err = err
		return
	}
	if d.count(key) == 0 {
		t.add(d, key, value)
		return
	}
	for k := len(d.Settings) - 1; k >= 0; k-- { // from the end, so that positions stay
		s := d.Settings[k]
		if !strings.EqualFold(s.Key, key) {
			continue
		}
		end, quoted := s.at+len(s.Value), value
		if !bytes.HasPrefix(t.text[end:], []byte(`"`)) {
			quoted = `"` + value + `"`
		}
		t.splice(s.at, end, quoted)
	}
}

func (t *editor) splice(from, to int, s string) {
	t.text = append(t.text[:from:from], append([]byte(s), t.text[to:]...)...)
}

// add adds a key: those of the disk data base at its end, any other behind the
// content ids, since VirtualBox wants it before the extents.
func (t *editor) add(d *descriptor, key, value string) {
	ddb := strings.HasPrefix(key, "ddb.")
	at := 0
	if ddb {
		at = len(t.text)
	}
	for _, s := range d.Settings {
		if ddb && strings.HasPrefix(s.folded, "ddb.") || !ddb && (s.folded == "version" || s.folded == "cid" || s.folded == "parentcid") {
			at = s.at
		}
	}
	eol, end := "\n", len(t.text)
	if n := bytes.IndexByte(t.text[at:], '\n'); n >= 0 {
		end = at + n + 1
	} else if !bytes.HasSuffix(t.text, []byte("\n")) {
		t.text = append(t.text, '\n')
		end = len(t.text)
	}
	if end > 1 && t.text[end-2] == '\r' {
		eol = "\r\n"
	}
	t.splice(end, end, fmt.Sprintf("%s=\"%s\"%s", key, value, eol))
}

// Rename writes the descriptor to another path, with other names of the extents. One
// inside an extent moves with the file, and learns the new name before, which nobody
// needs to open it.
func (i *image) Rename(fsys storage.FS, to string, names map[string]string) error {
	old, err := i.currentText()
	if err != nil {
		return err
	}
	if i.own != nil {
		names = map[string]string{i.desc.Extents[0].Name: filepath.Base(to)}
	}
	text, err := i.renamed(old, names)
	switch {
	case err != nil:
		return err
	case i.own == nil:
		return i.putNew(fsys, to, text)
	case len(i.files) > 1 || len(i.desc.Extents) > 1:
		return fmt.Errorf("the descriptor lies inside an extent and names further ones, which cannot be renamed in one step: %w", vdcore.ErrUnsupported)
	}
	if !i.packed() {
		if err := i.putEmbedded(fsys, old, text); err != nil {
			return err
		}
	}
	return fsys.Rename(i.files[0].Path(), to)
}

// putNew makes a descriptor file. That of a renaming that was cut off is there
// already, and then it is the same to the last byte.
func (i *image) putNew(fsys storage.FS, to string, text []byte) error {
	f, err := fsys.Open(to, storage.ReadOnly)
	if err != nil {
		return storage.NewFile(fsys, to, i.files[0].Path(), text)
	}
	st, err := f.Stat()
	there := make([]byte, min(st.Size, maxText))
	if err == nil {
		err = storage.ReadFull(f, there, 0)
	}
	if err = errors.Join(err, f.Close()); err == nil && !bytes.Equal(there, text) {
		err = &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	}
	return err
}

// renamed is the text with other names in the extent lines.
func (i *image) renamed(text []byte, names map[string]string) ([]byte, error) {
	t := &editor{text: text}
	for _, name := range names {
		if err := t.foreignLetters("the new name", name); err != nil {
			return nil, err
		}
		if strings.ContainsFunc(name, unquotable) {
			return nil, fmt.Errorf("the file name %q cannot be written into a descriptor: %w", name, vdcore.ErrUnsupported)
		}
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	met := map[string]bool{}
	for k, line := range lines {
		e, ok, err := parseExtentLine(strings.Trim(string(line), " \t\r\f\v\n"))
		file := e.Name
		if names[file] == "" {
			file = filepath.Clean(file) // of "./disk-flat.vmdk"
		}
		if name := names[file]; err == nil && ok && name != "" {
			lines[k], met[file] = renameExtent(line, e, name), true
		}
	}
	for file := range names {
		if i.own == nil && !met[file] {
			return nil, fmt.Errorf("no extent line says %q as it stands here, so none can be renamed with that file: %w", file, vdcore.ErrUnsupported)
		}
	}
	return bytes.Join(lines, nil), nil
}

// renameExtent puts another name into an extent line, which has it behind the type.
func renameExtent(line []byte, e extentLine, name string) []byte {
	kind := bytes.Index(bytes.ToUpper(line), []byte(e.Type)) + len(e.Type)
	before, after, _ := bytes.Cut(line[kind:], []byte(e.Name))
	quoted := name
	if !bytes.HasSuffix(before, []byte(`"`)) {
		quoted = `"` + name + `"`
	}
	return slices.Concat(line[:kind], before, []byte(quoted), after)
}
