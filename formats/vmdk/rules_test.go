package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"vdfs/vdcore"
)

// change patches an image.
type change func(b []byte) []byte

func put32(at int, v uint32) change {
	return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
}

func put64(at int, v uint64) change {
	return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[at:], v); return b }
}

func cut(n int) change { return func(b []byte) []byte { return b[:n] } }

// small is a sound hosted sparse image: data, zero, free, data, and a capacity
// that ends inside the last grain.
func small() hosted {
	return hosted{capacity: 31, grain: 8, grains: []int{1, zero, free, 0},
		desc: text("monolithicSparse", `RW 31 SPARSE "disk.vmdk"`)}
}

// In small: the redundant directory at sector 21, its table at 22, the directory
// at 26, its table at 27, grains from 128 on.
const (
	smallRGD = 21 * 512
	smallGD  = 26 * 512
	smallGT  = 27 * 512
)

// TestHeaderRules changes a field of a sound image at a time; what opens must
// say why, in a warning or as damage.
func TestHeaderRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		change change
		err    error  // nil: opens
		says   string // in the error, the warnings, or the damage
	}{
		{"sound", cut(144 * 512), nil, ""},
		{"version 0", put32(4, 0), vdcore.ErrUnsupported, "unknown version 0"},
		{"version 4", put32(4, 4), vdcore.ErrUnsupported, "unknown version 4"},
		{"version 3 without compression", put32(4, 3), nil, ""},
		{"flag 0x8", put32(8, 0xF), vdcore.ErrUnsupported, "unknown flags 0x8"},
		{"check bytes not in use", func(b []byte) []byte { b[73] = 0; return put32(8, 6)(b) }, nil, ""},
		{"check bytes", func(b []byte) []byte { b[75] = '\n'; return b }, vdcore.ErrCorrupt, "newline check bytes"},
		{"capacity 0", put64(12, 0), vdcore.ErrCorrupt, ""},
		{"capacity all ones", put64(12, 1<<64-1), vdcore.ErrCorrupt, "capacity"},
		{"capacity of many tables", put64(12, 1<<40), vdcore.ErrCorrupt, "capacity"},
		{"capacity past the directory", put64(12, 1<<30), vdcore.ErrCorrupt, "grain directory past the end"},
		{"capacity larger than the line", put64(12, 4000), nil, "the line counts"},
		{"capacity of whole grains", put64(12, 32), nil, ""},
		{"capacity smaller than the line", put64(12, 16), nil, "capacity ends at 8192 bytes"},
		{"grain 0", put64(20, 0), vdcore.ErrCorrupt, "grain size 0"},
		{"grain 24", put64(20, 24), vdcore.ErrCorrupt, "power of two"},
		{"grain 4", put64(20, 4), vdcore.ErrCorrupt, "too small"},
		{"grain 2^63", put64(20, 1<<63), vdcore.ErrCorrupt, "too large"},
		{"descriptor past the end", put64(28, 1<<60), vdcore.ErrCorrupt, "descriptor size"},
		{"descriptor too large", put64(36, 1<<63), vdcore.ErrCorrupt, "descriptor size"},
		{"descriptor elsewhere", put64(28, 22), vdcore.ErrCorrupt, "no descriptor"},
		{"no descriptor", put64(28, 0), vdcore.ErrUnsupported, "without a descriptor"},
		{"0 entries", put32(44, 0), vdcore.ErrCorrupt, "entries per grain table"},
		{"500 entries", put32(44, 500), vdcore.ErrCorrupt, "entries per grain table"},
		{"2^31 entries", put32(44, 1<<31), vdcore.ErrCorrupt, "entries per grain table"},
		{"directory past the end", put64(56, 1<<40), nil, "redundant one is used"},
		{"directory 0", put64(56, 0), nil, "redundant one is used"},
		{"directory in a footer", put64(56, 1<<64-1), vdcore.ErrCorrupt, "footer"},
		{"unclean", func(b []byte) []byte { b[72] = 1; return b }, nil, "unclean shutdown"},
		{"compression 2", func(b []byte) []byte { b[77] = 2; return b }, vdcore.ErrUnsupported, "compression 2"},
		{"compression without its flag", func(b []byte) []byte { b[77] = 1; return b }, vdcore.ErrCorrupt, "contradicts"},
		{"markers without compression", put32(8, 0x20007), vdcore.ErrUnsupported, "markers"},
		{"table past the end", put32(smallGD, 1<<30), nil, "redundant copies are used"},
		{"table in the header", put32(smallGD, 0xFFFFFFFF), nil, "redundant copies are used"},
		{"both tables past the end", func(b []byte) []byte { return put32(smallRGD, 1<<30)(put32(smallGD, 1<<30)(b)) }, nil, "grain table past the end"},
		{"table over the directory", func(b []byte) []byte { return put32(smallRGD, 26)(put32(smallGD, 26)(b)) }, nil, "misplaced"},
		{"grain past the end", put32(smallGT, 1<<30), nil, "grain past the end"},
		{"grain in the descriptor", put32(smallGT, 2), nil, "inside the header or the tables"},
		{"grain in the directory", put32(smallGT, 20), nil, "inside the header or the tables"},
		{"grain in its table", put32(smallGT, 27), nil, "inside the header or the tables"},
		{"grains shared", put32(smallGT, 128), nil, "two grain table entries share a grain"},
		{"entry behind the end of the disk", put32(smallGT+16, 1<<30), nil, ""},
		{"cut inside the last grain needed", cut(128*512 + 100), nil, "grain past the end"},
		{"cut inside the tables", cut(smallGT + 8), nil, "redundant copies are used"},
		{"cut inside the header", cut(511), vdcore.ErrCorrupt, "truncated header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			img, err := files{"disk.vmdk": c.change(small().bytes())}.open(t, "disk.vmdk")
			checkOutcome(t, img, err, c.err, c.says)
			if err == nil {
				rightOrLost(t, img, small().flat())
			}
		})
	}
}

// checkOutcome compares an open with what it should have come to.
func checkOutcome(t *testing.T, img vdcore.Image, err, want error, says string) {
	t.Helper()
	var said strings.Builder
	switch {
	case err != nil:
		said.WriteString(err.Error())
	default:
		fmt.Fprintln(&said, img.Info().Warnings, img.Info().Notes)
		for _, d := range img.Info().Damage {
			fmt.Fprintln(&said, d.Err)
			if !errors.Is(d.Err, vdcore.ErrCorrupt) {
				t.Errorf("damage %v", d.Err)
			}
		}
		if says == "" && (len(img.Info().Warnings) > 0 || len(img.Info().Damage) > 0) {
			t.Errorf("unasked: %s", said.String())
		}
	}
	if (err == nil) != (want == nil) || !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	if !strings.Contains(said.String(), says) {
		t.Errorf("says %q, want %q", said.String(), says)
	}
}

// rightOrLost: what the map gives is the right byte, unless a warning says that
// grains are shared; what it does not give is in the list of damage.
func rightOrLost(t *testing.T, img vdcore.Image, flat []byte) {
	t.Helper()
	extents, err := img.Map(nil, 0, img.Info().Capacity)
	if err != nil {
		t.Fatal(err)
	}
	lost := int64(0)
	shared := strings.Contains(fmt.Sprint(img.Info().Warnings), "share a grain")
	for _, e := range extents {
		if e.Kind == vdcore.Lost {
			lost += e.Len
			continue
		}
		var b bytes.Buffer
		if err := flatten(&b, []vdcore.Image{img}, e.Off, e.Len); err != nil {
			t.Fatal(err)
		}
		if !shared && !bytes.Equal(b.Bytes(), flat[e.Off:e.End()]) {
			t.Errorf("wrong bytes in %+v", e)
		}
	}
	for _, d := range img.Info().Damage {
		lost -= d.Len
	}
	if lost != 0 {
		t.Errorf("%d bytes more are lost than are listed", lost)
	}
}

// TestCOWDAndSERules does the same for the ESX formats.
func TestCOWDAndSERules(t *testing.T) {
	grains := []int{0, free, 1}
	cow := files{"disk.vmdk": text("vmfsSparse", `RW 6 VMFSSPARSE "x"`), "x": cowd(6, 2, grains)}
	ses := files{"disk.vmdk": text("seSparse", `RW 24 SESPARSE "x"`), "x": se(24, grains)}
	for _, c := range []struct {
		name   string
		files  files
		change change
		err    error
		says   string
	}{
		{"cowd version", cow, put32(4, 2), vdcore.ErrUnsupported, "unknown version 2"},
		{"cowd flags", cow, put32(8, 1), vdcore.ErrUnsupported, "unknown flags"},
		{"cowd capacity", cow, put32(12, 0), vdcore.ErrCorrupt, "capacity"},
		{"cowd grain 0", cow, put32(16, 0), vdcore.ErrCorrupt, "grain size 0"},
		{"cowd grain 3", cow, put32(16, 3), vdcore.ErrCorrupt, "power of two"},
		{"cowd directory in the header", cow, put32(20, 1), vdcore.ErrCorrupt, "grain directory"},
		{"cowd directory past the end", cow, put32(20, 1<<30), vdcore.ErrCorrupt, "grain directory"},
		{"cowd directory too short", cow, put32(24, 0), vdcore.ErrCorrupt, "grain directory of 0 entries"},
		{"cowd capacity past the directory", cow, put32(12, 1<<31), vdcore.ErrCorrupt, "grain directory of 1 entries"},
		{"cowd table past the end", cow, put32(4*512, 1<<30), nil, "grain table past the end"},
		{"cowd grain past the end", cow, put32(5*512, 1<<30), nil, "grain past the end"},
		{"cowd grain in the header", cow, put32(5*512, 2), nil, "inside the header"},
		{"cowd unclean", cow, put32(1648, 1), nil, "unclean shutdown"},
		{"cowd cut", cow, cut(2000), vdcore.ErrCorrupt, "truncated header"},
		{"cowd signature", cow, put32(0, 0), vdcore.ErrCorrupt, "no signature"},
		{"se version", ses, put64(8, 1), vdcore.ErrUnsupported, "unknown version"},
		{"se grain size", ses, put64(24, 16), vdcore.ErrUnsupported, "grain size"},
		{"se table size", ses, put64(32, 128), vdcore.ErrUnsupported, "grain tables"},
		{"se flags", ses, put64(40, 1), vdcore.ErrUnsupported, "unknown flags"},
		{"se reserved", ses, put64(56, 1), vdcore.ErrUnsupported, "reserved"},
		{"se capacity", ses, put64(16, 1<<60), vdcore.ErrCorrupt, "capacity"},
		{"se capacity past the directory", ses, put64(16, 1<<40), vdcore.ErrCorrupt, "grain directory"},
		{"se volatile past the end", ses, put64(80, 1<<40), vdcore.ErrCorrupt, "volatile header"},
		{"se volatile magic", ses, put64(512, 0), vdcore.ErrCorrupt, "volatile header"},
		{"se journal", ses, put64(512+24, 1), vdcore.ErrUnsupported, "journal"},
		{"se directory 0", ses, put64(128, 0), vdcore.ErrCorrupt, "region"},
		{"se directory entry", ses, put64(16*512, 0x2000000000000000), nil, "grain table"},
		{"se directory index", ses, put64(16*512, 0x10000000FFFFFFFF), nil, "grain table"},
		{"se free with bits", ses, put64(32*512, 1), nil, "unknown kind"},
		{"se kind 7", ses, put64(32*512, 7<<60), nil, "unknown kind"},
		{"se grain past the end", ses, put64(32*512, 3<<60|0xFFFFFFFFFFFF), nil, "grain past the end"},
		{"se grains in the header", ses, put64(192, 1), nil, "inside the header"},
		{"se signature", ses, put64(0, 0), vdcore.ErrCorrupt, "no signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := files{"disk.vmdk": c.files["disk.vmdk"], "x": c.change(bytes.Clone(c.files["x"]))}
			img, err := fs.open(t, "disk.vmdk")
			checkOutcome(t, img, err, c.err, c.says)
		})
	}
}

// TestDescriptorRules: which texts are taken, and what is said of the others.
func TestDescriptorRules(t *testing.T) {
	const head = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\n"
	for _, c := range []struct {
		name, text string
		err        error
		says       string
		sectors    int64
	}{
		{"spelling", "#disk descriptor file\r\nVERSION = 1\r\nRW 8 ZERO\r\n", nil, "", 8},
		{"any order", "# Disk Descriptor File\nddb.x=\"1\"\nrw 1 zero\nCID=f\nRW 2\tZERO\n", nil, "", 3},
		{"byte order mark", "\xef\xbb\xbf# Disk DescriptorFile\nRW 8 ZERO", nil, "", 8},
		{"behind NUL", head + "RW 8 ZERO\n\x00RW 8 ZERO\n", nil, "", 8},
		{"no quotes", head + "RW 8 FLAT a.raw 3\n", nil, "", 8},
		{"blanks in the name", head + "RW 8 FLAT \"a b c.raw\" 3\n", nil, "", 8},
		{"equal sign in the name", head + "RW 8 FLAT \"a=b.raw\" 3\n", nil, "", 8},
		{"more fields", head + "RW 8 FLAT \"a\" 3 partitionUUID dev:x\n", nil, "", 8},
		{"no comment line", "version=1\nRW 8 ZERO\n", vdcore.ErrFormat, "Disk DescriptorFile", 0},
		{"no extents", head, vdcore.ErrCorrupt, "no extents", 0},
		{"version 7", "# Disk DescriptorFile\nversion=7\nRW 8 ZERO\n", vdcore.ErrUnsupported, "unknown version", 0},
		{"raw device", "# Disk DescriptorFile\ncreateType=\"vmfsRawDeviceMap\"\nRW 8 ZERO\n", vdcore.ErrUnsupported, "raw LUN", 0},
		{"host disk", "# Disk DescriptorFile\ncreateType=\"fullDevice\"\nRW 8 FLAT \"/dev/sda\" 0\n", vdcore.ErrUnsupported, "host device", 0},
		{"raw extent", head + "RW 8 VMFSRDM \"a-rdm.vmdk\"\n", vdcore.ErrUnsupported, "host device", 0},
		{"encrypted", head + "encryption.keySafe = \"x\"\nRW 8 ZERO\n", vdcore.ErrUnsupported, "encrypted", 0},
		{"access", head + "WO 8 ZERO\n", vdcore.ErrCorrupt, "neither an extent nor a setting", 0},
		{"access, name with =", head + "WO 8 FLAT \"a=b\"\n", vdcore.ErrCorrupt, "neither", 0},
		{"size 0", head + "RW 0 ZERO\n", vdcore.ErrCorrupt, "extent size", 0},
		{"negative size", head + "RW -8 ZERO\n", vdcore.ErrCorrupt, "extent size", 0},
		{"size over 64 bits", head + "RW 99999999999999999999 ZERO\n", vdcore.ErrCorrupt, "extent size", 0},
		{"sum", head + strings.Repeat("RW 1000000000000000 ZERO\n", 2), vdcore.ErrCorrupt, "extent size", 0},
		{"type", head + "RW 8 WAT \"a\"\n", vdcore.ErrUnsupported, "unknown extent type", 0},
		{"no type", head + "RW 8\n", vdcore.ErrUnsupported, "unknown extent type", 0},
		{"no name", head + "RW 8 FLAT\n", vdcore.ErrCorrupt, "without a file name", 0},
		{"open quote", head + "RW 8 FLAT \"a\n", vdcore.ErrCorrupt, "closing quote", 0},
		{"negative offset", head + "RW 8 FLAT \"a\" -1\n", vdcore.ErrCorrupt, "extent offset", 0},
		{"offset of a sparse file", head + "RW 8 SPARSE \"a\" 8\n", vdcore.ErrUnsupported, "offset", 0},
		{"lone CR", "# Disk DescriptorFile\nCID=1\rRW 8 ZERO\n", vdcore.ErrCorrupt, "carriage return", 0},
		{"too many", head + strings.Repeat("RW 1 ZERO\n", maxExtents+1), vdcore.ErrUnsupported, "extents", 0},
		{"too long", head + strings.Repeat("#\n", maxText/2), vdcore.ErrCorrupt, "descriptor too long", 0},
		{"parentCID", "# Disk DescriptorFile\nparentCID=xyz\nRW 8 ZERO\n", vdcore.ErrCorrupt, "parentCID", 0},
		{"CID twice", head + "cid=2\nRW 8 ZERO\n", vdcore.ErrCorrupt, "sets cid twice", 0},
		{"CID twice, the same", head + "CID=1\nRW 8 ZERO\n", nil, "", 8},
		{"parentCID twice", head + "parentCID=1\nRW 8 ZERO\n", vdcore.ErrCorrupt, "sets parentCID twice", 0},
		{"parent's name twice", head + "parentFileNameHint=\"a\"\nparentFileNameHint=\"b\"\nRW 8 ZERO\n", vdcore.ErrCorrupt, "sets parentFileNameHint twice", 0},
		{"UUID twice", head + "ddb.uuid.image=\"\"\nddb.uuid.image=\"b\"\nRW 8 ZERO\n", vdcore.ErrCorrupt, "sets ddb.uuid.image twice", 0},
		{"parent UUID twice", head + "ddb.uuid.parent=\"\"\nddb.uuid.parent=\"b\"\nRW 8 ZERO\n", vdcore.ErrCorrupt, "sets ddb.uuid.parent twice", 0},
		{"parent UUID", head + "ddb.uuid.parent=\"what\"\nRW 8 ZERO\n", vdcore.ErrCorrupt, "ddb.uuid.parent", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := parseDescriptor([]byte(c.text))
			var info vdcore.Info
			if err == nil {
				info, err = d.info()
			}
			if (err == nil) != (c.err == nil) || !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("says %q, want %q", err, c.says)
			}
			if err == nil && info.Capacity != c.sectors*512 {
				t.Errorf("capacity %d", info.Capacity)
			}
		})
	}
}

// TestParentByNameOnly: a name without an identity is a parent all the same, one
// nothing fits; an empty name is none.
func TestParentByNameOnly(t *testing.T) {
	for _, c := range []struct {
		lines string
		want  *vdcore.ParentRef
	}{
		{"", nil},
		{"parentFileNameHint=\"\"\n", nil},
		{"parentFileNameHint=\" \"\nparentCID=ffffffff\n", nil},
		{"parentFileNameHint=\"base.vmdk\"\n", &vdcore.ParentRef{CID: vdcore.NoParentCID, Hint: "base.vmdk"}},
		{"parentFileNameHint=\"base.vmdk\"\nparentCID=ffffffff\nddb.uuid.parent=\"\"\n", &vdcore.ParentRef{CID: vdcore.NoParentCID, Hint: "base.vmdk"}},
		{"parentFileNameHint=\"base.vmdk\"\nparentCID=fffffffe\n", &vdcore.ParentRef{CID: 0xfffffffe, Hint: "base.vmdk"}},
		{"parentCID=1\n", &vdcore.ParentRef{CID: 1}},
	} {
		d, err := parseDescriptor([]byte("# Disk DescriptorFile\ncreateType=\"custom\"\nRW 8 ZERO\n" + c.lines))
		if err != nil {
			t.Fatal(err)
		}
		info, err := d.info()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, info.Parent); diff != "" || (len(info.Flags) > 0) != (c.want != nil) {
			t.Errorf("%q: flags %q, parent %s", c.lines, info.Flags, diff)
		}
	}
}

// TestInfo reads every setting that means something, some of them oddly written.
func TestInfo(t *testing.T) {
	const img, mod, parent, parentMod = "e32a3a2d-bd6f-4898-9598-12c497d1b373", "0d423a60-16ea-4015-8329-2eb05e7a89fb",
		"2fb1f58c-2421-4dca-a3c7-027129786a3f", "a514aa67-4ca1-4730-915e-134bc2ff28e8"
	d, err := parseDescriptor([]byte(`# Disk DescriptorFile
version=3
parentCID=8206c4af
cid = "7F51f87"
CREATETYPE = twoGbMaxExtentSparse
parentFileNameHint="../base disk.vmdk"
isNativeSnapshot="yes"
RW 100 SPARSE "a-s001.vmdk"
ddb.comment = "a \"b\" \\ c\nd"
ddb.geometry.cylinders = "40"
ddb.geometry.heads = 16
ddb.geometry.sectors="63"
ddb.geometry.biosCylinders="5"
ddb.geometry.biosHeads="255"
ddb.geometry.biosSectors="64"
ddb.uuid.image="` + img + `"
ddb.uuid.modification="` + mod + `"
ddb.uuid.parent="` + parent + `"
ddb.uuid.parentmodification="` + parentMod + `"
ddb.uuid = "60 00 C2 9b ff 0b d1 e0-5a 31 6e 1a 29 90 dd 2a"
ddb.adapterType="ide"
ddb.adaptertype="lsilogic"
`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.info()
	if err != nil {
		t.Fatal(err)
	}
	want := vdcore.Info{
		Format: "vmdk", Variant: "twoGbMaxExtentSparse", Version: "3", Capacity: 51200,
		Flags: []string{"differencing", "split"}, Comment: "a \\\"b\\\" \\ c\nd",
		Identity: vdcore.Identity{UUID: uuid.MustParse(img), ModUUID: uuid.MustParse(mod), CID: 0x7f51f87, HasCID: true, ParentCID: 0x8206c4af},
		Parent:   &vdcore.ParentRef{UUID: uuid.MustParse(parent), ModUUID: uuid.MustParse(parentMod), Hint: "../base disk.vmdk"},
		PCHS:     vdcore.Geometry{Cylinders: 40, Heads: 16, Sectors: 63},
		Warnings: []string{
			"descriptor version 3 is read as version 1",
			"a snapshot kept by the storage vendor (isNativeSnapshot=yes); what the array holds is not seen here",
			`the descriptor sets "ddb.adaptertype" twice; the first value is used`,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestNames: only plain names inside the folder lead anywhere.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	vm, other := filepath.Join(dir, "vm"), filepath.Join(dir, "other")
	for _, f := range []string{"vm/a.raw", "vm/sub/a.raw", "vm/x: y.raw", "vm/caf\xe9.raw", "vm/na\u00efve.raw", "secret.raw", "other/b.raw"} {
		path := filepath.Join(dir, f)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, make([]byte, 4096), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(vm, "folder"), 0o755)
	os.Symlink("../secret.raw", filepath.Join(vm, "link.raw"))
	os.Symlink("a.raw", filepath.Join(vm, "inner.raw"))
	for _, c := range []struct {
		name string
		err  error
	}{
		{"a.raw", nil}, {"./a.raw", nil}, {"sub/a.raw", nil}, {"sub/../a.raw", nil}, {"inner.raw", nil},
		{filepath.Join(vm, "a.raw"), nil}, {"x: y.raw", nil}, {"caf\xe9.raw", nil}, {"na\xefve.raw", nil},
		{"b.raw", nil}, // in the search folder
		{"nothing.raw", vdcore.ErrMissing}, {"folder/nothing.raw", vdcore.ErrMissing},
		{"../secret.raw", vdcore.ErrOutside}, {"sub/../../secret.raw", vdcore.ErrOutside}, {"link.raw", vdcore.ErrOutside},
		{"/etc/passwd", vdcore.ErrOutside}, {"/dev/zero", vdcore.ErrNotRegular}, {"folder", vdcore.ErrNotRegular},
		{"json:{}", vdcore.ErrUnsupported}, {"https://host/a", vdcore.ErrUnsupported}, {"NBD:host:1", vdcore.ErrUnsupported},
		{`C:\vm\a.raw`, vdcore.ErrUnsupported}, {`\\host\share\a`, vdcore.ErrUnsupported}, {`\\.\PhysicalDrive0`, vdcore.ErrUnsupported},
		{"a\x01b", vdcore.ErrUnsupported}, {strings.Repeat("x", 5000), vdcore.ErrUnsupported},
		{"disk.vmdk", vdcore.ErrCorrupt},
	} {
		path := filepath.Join(vm, "disk.vmdk")
		if err := os.WriteFile(path, text("monolithicFlat", fmt.Sprintf(`RW 8 FLAT "%s" 0`, c.name)), 0o644); err != nil {
			t.Fatal(err)
		}
		img, err := openPath(path, false, other)
		if err == nil {
			defer img.Close()
			for _, d := range img.Info().Damage {
				err = d.Err
			}
		}
		if (err == nil) != (c.err == nil) || !errors.Is(err, c.err) {
			t.Errorf("%.100q: error %v, want %v", c.name, err, c.err)
		}
		if err != nil && c.err != nil && len(c.name) < 100 && !strings.Contains(err.Error(), strings.Trim(fmt.Sprintf("%q", c.name), `"`)) && !strings.Contains(err.Error(), c.name) {
			t.Errorf("%q: the error does not name it: %v", c.name, err)
		}
	}
}

// TestBareExtents: a piece of an image says which file to open instead.
func TestBareExtents(t *testing.T) {
	h := small()
	h.desc = nil
	fs := files{
		"disk-s001.vmdk":            h.bytes(),
		"win-000002-s012.vmdk":      h.bytes(),
		"disk-000001-delta.vmdk":    cowd(6, 2, []int{0}),
		"disk-000001-sesparse.vmdk": se(8, []int{0}),
		"odd.vmdk":                  h.bytes(),
	}
	for name, says := range map[string]string{
		"disk-s001.vmdk":            "extent 1 of a split set; open disk.vmdk instead",
		"win-000002-s012.vmdk":      "extent 12 of a split set; open win-000002.vmdk instead",
		"disk-000001-delta.vmdk":    "open its descriptor disk-000001.vmdk instead",
		"disk-000001-sesparse.vmdk": "open its descriptor disk-000001.vmdk instead",
		"odd.vmdk":                  "open the descriptor that names it",
	} {
		_, err := fs.open(t, name)
		if !errors.Is(err, vdcore.ErrUnsupported) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
	for name, says := range map[string]string{
		"disk-flat.vmdk": "open disk.vmdk instead", "disk-f003.vmdk": "flat extent 3 of a split set; open disk.vmdk",
		"disk-ctk.vmdk": "changed blocks", "disk-rdmp.vmdk": "raw LUN",
	} {
		_, err := vdcore.Probe(vdcore.Sample{Head: make([]byte, 512), Tail: make([]byte, 512), Size: 512, Name: name})
		if !errors.Is(err, vdcore.ErrFormat) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
}

// TestRenamed: the only sparse line of an embedded descriptor means its own file,
// even when a file of the old name lies beside it.
func TestRenamed(t *testing.T) {
	other := small()
	other.grains = []int{free, free, free, free}
	fs := files{"copy.vmdk": small().bytes(), "disk.vmdk": other.bytes()}
	img := fs.must(t, "copy.vmdk")
	if !bytes.Equal(content(t, img), small().flat()) || len(img.Files()) != 1 {
		t.Errorf("%d files, or the other image's content", len(img.Files()))
	}
}

// TestOneFileTwice: flat extents may share a file, tables may not.
func TestOneFileTwice(t *testing.T) {
	fs := files{
		"disk.vmdk": text("custom", `RW 8 SPARSE "b.vmdk"`, `RW 8 SPARSE "./b.vmdk"`),
		"b.vmdk":    small().bytes(),
		"self.vmdk": text("monolithicFlat", `RW 1 FLAT "self.vmdk" 0`),
	}
	if _, err := fs.open(t, "disk.vmdk"); !errors.Is(err, vdcore.ErrCorrupt) || !strings.Contains(err.Error(), "tables of one file") {
		t.Error(err)
	}
	if _, err := fs.open(t, "self.vmdk"); !errors.Is(err, vdcore.ErrCorrupt) || !strings.Contains(err.Error(), "descriptor itself") {
		t.Error(err)
	}
}

// TestShallow: Info without the extents, which need not be there.
func TestShallow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	d := append(text("vmfs", `RW 16 VMFS "gone-flat.vmdk"`), "parentFileNameHint=\"up.vmdk\"\n"...)
	d = bytes.Replace(d, []byte("parentCID=ffffffff"), []byte("parentCID=abc"), 1)
	if err := os.WriteFile(path, d, 0o644); err != nil {
		t.Fatal(err)
	}
	img, err := openPath(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	i := img.Info()
	if i.Variant != "vmfs" || i.Capacity != 8192 || i.Parent == nil || i.Parent.CID != 0xabc || i.Parent.Hint != "up.vmdk" || len(i.Damage) > 0 {
		t.Errorf("%+v", i)
	}
}

// TestShallowLetsGo: who keeps the Info of many files does not keep their texts.
func TestShallowLetsGo(t *testing.T) {
	const count, limit = 32, 8 << 20
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	d := "# Disk DescriptorFile\nversion=1\nparentCID=abc\nparentFileNameHint=\"up.vmdk\"\ncreateType=\"monolithicFlat\"\n" +
		"RW 1 FLAT \"x\" 0\nddb.comment=\"c\"\n" + strings.Repeat("# nothing\n", 100000)
	if err := os.WriteFile(path, []byte(d), 0o644); err != nil {
		t.Fatal(err)
	}
	kept := make([]*vdcore.Info, 0, count)
	before := heap()
	for range count {
		img, err := openPath(path, true)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, img.Info())
		img.Close()
	}
	if grown := heap() - before; grown > limit {
		t.Errorf("%d bytes are kept with %d descriptors of %d", grown, count, len(d))
	}
	if i := kept[0]; i.Version != "1" || i.Variant != "monolithicFlat" || i.Comment != "c" || i.Parent.Hint != "up.vmdk" {
		t.Errorf("%+v", i)
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSharedTables: many directory entries on one table are neither read many
// times nor believed: any of them may be the wrong one.
func TestSharedTables(t *testing.T) {
	h := hosted{capacity: 4096 * 3, grain: 8, grains: scattered(rand.New(rand.NewPCG(1, 2)), 512*3, free)}
	h.desc = text("monolithicSparse", fmt.Sprintf(`RW %d SPARSE "disk.vmdk"`, h.capacity))
	b := h.bytes()
	for _, dir := range []int{int(binary.LittleEndian.Uint64(b[48:])), int(binary.LittleEndian.Uint64(b[56:]))} {
		copy(b[dir*512+8:dir*512+12], b[dir*512:])
	}
	img, err := files{"disk.vmdk": b}.open(t, "disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	const span = 512 * 4096
	if d := img.Info().Damage; len(d) != 2 || d[0].Off != 0 || d[0].Len != span || d[1].Off != 2*span || d[1].Len != span {
		t.Errorf("damage %v", d)
	}
	rightOrLost(t, img, h.flat())
}

// TestParents: what the parent cases of the corpus say of their parents.
func TestParents(t *testing.T) {
	dir := unpack(t, "testdata/good/vmdk-qemu-chain3")
	top := openImage(t, filepath.Join(dir, "top.vmdk")).Info()
	if p := top.Parent; p == nil || p.Hint != "mid.vmdk" || p.CID != 0x8206c4af || p.UUID != uuid.Nil {
		t.Errorf("%+v", p)
	}
	if !cmp.Equal(top.Flags, []string{"differencing"}) {
		t.Error(top.Flags)
	}
}
