package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

var one = uuid.MustParse("11111111-2222-4333-8444-555555555555")

// TestEdited: only what is set changes, and what is new stands where tools put it.
func TestEdited(t *testing.T) {
	text := func(s string) *string { return &s }
	foreign := "# Disk DescriptorFile\nversion=1\nCID=7f51f87\nparentCID=00c0ffee\ncreateType=\"monolithicFlat\"\n\n" +
		"# Extent description\nRW 2048 FLAT \"a-flat.vmdk\" 0\n\n# The Disk Data Base\n#DDB\nddb.toolsVersion = \"7\"\nddb.uuid = \"60 00 C2 9f\"\nddb.adapterType = ide\n# the end"
	for _, c := range []struct {
		name     string
		e        vdcore.Edit
		old, now string // what is replaced by what, in foreign
	}{
		{"comment", vdcore.Edit{Comment: text("ä \\\n")}, "= ide\n", "= ide\nddb.comment=\"ä \\\\\\n\"\n"},
		{"parent file", vdcore.Edit{ParentFile: text("b c.vmdk")}, "ffee\n", "ffee\nparentFileNameHint=\"b c.vmdk\"\n"},
		{"uuid", vdcore.Edit{UUID: &one}, "= ide\n", "= ide\nddb.uuid.image=\"" + one.String() + "\"\n" +
			"ddb.uuid.modification=\"00000000-0000-0000-0000-000000000000\"\nddb.uuid.parent=\"00000000-0000-0000-0000-000000000000\"\n" +
			"ddb.uuid.parentmodification=\"00000000-0000-0000-0000-000000000000\"\n"},
		{"modification", vdcore.Edit{ModUUID: &one}, "= ide\n", "= ide\nddb.uuid.modification=\"" + one.String() + "\"\n"},
		{"geometry", vdcore.Edit{PCHS: &vdcore.Geometry{Cylinders: 3, Heads: 16, Sectors: 63}}, "= ide\n",
			"= ide\nddb.geometry.cylinders=\"3\"\nddb.geometry.heads=\"16\"\nddb.geometry.sectors=\"63\"\n"},
	} {
		for _, eol := range []string{"\n", "\r\n"} {
			in := strings.ReplaceAll(foreign, "\n", eol)
			want := strings.ReplaceAll(strings.Replace(foreign, c.old, c.now, 1), "\n", eol)
			got, err := edited([]byte(in), c.e)
			if err != nil || string(got) != want {
				t.Errorf("%s, %q: %v\n%s", c.name, eol, err, got)
			}
			again, err := edited(got, c.e)
			if err != nil || !bytes.Equal(again, got) {
				t.Errorf("%s, %q, again: %v\n%s", c.name, eol, err, again)
			}
		}
	}
	e := &editor{text: []byte(foreign)}
	e.set("DDB.AdapterType", "lsi logic")
	if want := strings.Replace(foreign, "= ide", `= "lsi logic"`, 1); e.err != nil || string(e.text) != want {
		t.Errorf("a bare value: %v\n%s", e.err, e.text)
	}
}

// TestEditRefused: what a descriptor cannot hold is refused with the reason.
func TestEditRefused(t *testing.T) {
	const plain = "# Disk DescriptorFile\nversion=1\n%CID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"a-flat.vmdk\" 0\n"
	for _, c := range []struct{ encoding, comment, says string }{
		{"", strings.Repeat("ü", 512), "1024 bytes in UTF-8"},
		{"", strings.Repeat("\n", 512), "a VMDK holds 1023"},
		{"", `a "quoted" word`, "double quote"},
		{"", "a\x00b", "NUL"},
		{"", "a\xff", "not text in UTF-8"},
		{"encoding=\"windows-1252\"\n", "ä", "windows-1252"},
		{"encoding=\"UTF-8\"\n", "ä", ""},
		{"encoding=\"windows-1252\"\n", "a", ""},
		{"", strings.Repeat("ü", 511) + "a", ""},
	} {
		text := strings.Replace(plain, "%", c.encoding, 1)
		_, err := edited([]byte(text), vdcore.Edit{Comment: &c.comment})
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%.20q: %v", c.comment, err)
		case c.says != "" && (!errors.Is(err, vdcore.ErrUnsupported) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%.20q: %v, not %q", c.comment, err, c.says)
		}
	}
}

// TestNewNames: extent lines get the new names and nothing else changes.
func TestNewNames(t *testing.T) {
	const text = "# Disk DescriptorFile\nversion=1\nRW 8 FLAT \"a-f001.vmdk\" 0\r\n  rw 8 flat a-f002.vmdk 0\nRW 8 ZERO\nRW 8 FLAT \"FLAT\" 0\nRW 8 FLAT \"a-f001.vmdk\" 8\nddb.x = \"a-f001.vmdk\"\n"
	i := &image{}
	got, err := i.renamed([]byte(text), map[string]string{"a-f001.vmdk": "b c-f001.vmdk", "a-f002.vmdk": "b c-f002.vmdk", "FLAT": "b"})
	want := "# Disk DescriptorFile\nversion=1\nRW 8 FLAT \"b c-f001.vmdk\" 0\r\n  rw 8 flat \"b c-f002.vmdk\" 0\nRW 8 ZERO\nRW 8 FLAT \"b\" 0\nRW 8 FLAT \"b c-f001.vmdk\" 8\nddb.x = \"a-f001.vmdk\"\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := i.renamed([]byte(text), map[string]string{"FLAT": `a"b`}); !errors.Is(err, vdcore.ErrUnsupported) {
		t.Errorf("a quote: %v", err)
	}
}

// TestInterrupted: a descriptor that an interrupted Edit has left at the end of the
// file is written to there, and returns with the next Edit, with a new content id if
// QEMU's, behind the header, is another one.
func TestInterrupted(t *testing.T) {
	for _, written := range []bool{false, true} {
		mem := vdtest.NewMem()
		if err := create(t.Context(), vdcore.CreateArgs{FS: mem, Path: "/a.vmdk", Capacity: 1 << 20, UUID: one}); err != nil {
			t.Fatal(err)
		}
		size := len(mem.Bytes("/a.vmdk"))
		b := bytes.Clone(mem.Bytes("/a.vmdk"))
		b = append(b, b[newDescriptor*sector:(newDescriptor+newRoom)*sector]...)
		binary.LittleEndian.PutUint64(b[placeAt:], uint64(size/sector))
		mem.Put("/a.vmdk", b)
		before := reopen(t, mem, false)
		if notes := before.Info().Notes; len(notes) != 1 || !strings.Contains(notes[0], "interrupted") {
			t.Errorf("notes: %q", notes)
		}
		if written {
			w := reopen(t, mem, true).(vdcore.Writer)
			if err := errors.Join(w.Begin(true), w.Finish(), w.Close()); err != nil {
				t.Fatal(err)
			}
		}
		comment := "back"
		if err := reopen(t, mem, false).(vdcore.Editor).Edit(mem, vdcore.Edit{Comment: &comment}); err != nil {
			t.Fatal(err)
		}
		after := reopen(t, mem, false)
		if i := after.Info(); len(i.Notes) != 0 || i.Comment != comment || (i.CID == before.Info().CID) == written {
			t.Errorf("%+v", i)
		}
		if n := len(mem.Bytes("/a.vmdk")); n != size {
			t.Errorf("the file has %d bytes, before %d", n, size)
		}
	}
}

func reopen(t *testing.T, mem *vdtest.Mem, write bool) vdcore.Image {
	t.Helper()
	f, err := mem.Open("/a.vmdk", storage.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	img, err := open(vdcore.OpenArgs{File: f, Path: "/a.vmdk", FS: mem, Tables: vdcore.NewTables(), Write: write})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return img
}

// TestEmbeddedRoom: a descriptor grows into the sectors that are free before the first
// table, and no further.
func TestEmbeddedRoom(t *testing.T) {
	mem := vdtest.NewMem()
	if err := create(t.Context(), vdcore.CreateArgs{FS: mem, Path: "/a.vmdk", Capacity: 1 << 20, UUID: one}); err != nil {
		t.Fatal(err)
	}
	b := mem.Bytes("/a.vmdk")
	b[placeAt+8] = 2 // sectors for the descriptor, of 20 there are
	edit := func(comment string) (hostedHeader, error) {
		img := reopen(t, mem, false)
		return *img.(*image).own, img.(*image).Edit(mem, vdcore.Edit{Comment: &comment})
	}
	if _, err := edit(strings.Repeat("c", 800)); err != nil {
		t.Error(err)
	}
	h, err := edit("short")
	if err != nil || h.DescriptorOffset != 1 || h.DescriptorSize != 3 {
		t.Errorf("descriptor at %d, %d sectors: %v", h.DescriptorOffset, h.DescriptorSize, err)
	}
	mem.Bytes("/a.vmdk")[48] = 2 // as if the redundant directory followed at once
	before := bytes.Clone(mem.Bytes("/a.vmdk"))
	if _, err := edit("c"); !errors.Is(err, vdcore.ErrUnsupported) || !strings.Contains(err.Error(), "has room for") {
		t.Errorf("no room: %v", err)
	}
	if !bytes.Equal(mem.Bytes("/a.vmdk"), before) {
		t.Error("what was refused has changed something")
	}
}
