package vdcore_test

import (
	"errors"
	"strings"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/vdtest"
)

func sample(name string, content []byte) vdcore.Sample {
	n := min(len(content), vdcore.SampleSize)
	return vdcore.Sample{Head: content[:n], Tail: content[len(content)-n:], Size: int64(len(content)), Name: name}
}

// at puts text at a place of an otherwise empty file of n bytes; a negative place
// counts from the end.
func at(n, place int, text string) []byte {
	b := make([]byte, n)
	if place < 0 {
		place += n
	}
	copy(b[place:], text)
	return b
}

func TestProbe(t *testing.T) {
	vdi := at(8192, 64, "\x7f\x10\xda\xbe")
	koly := at(8192, -512, "koly\x00\x00\x00\x04\x00\x00\x02\x00")
	for _, c := range []struct {
		name    string
		content []byte
		want    string // backend, or a word of the refusal
		err     error
	}{
		{"disk.vdi", vdi, "vdi", nil},
		{"disk.img", vdi, "vdi", nil},
		{"disk.raw", vdi, "vdi", nil},
		{"disk.raw", at(8192, 0, "anything"), "raw", nil},
		{"disk", at(1, 0, "x"), "raw", nil},
		{"disk.dmg", at(8192, 0, "plain disk"), "raw", nil},
		{"notes.vdi", at(4000, 0, "just text"), "signature is missing", vdcore.ErrFormat},
		{"DISK.VDI", at(4000, 0, "just text"), "signature is missing", vdcore.ErrFormat},
		{"disk.vhd", at(8192, 0, "no trailer"), "VHD", vdcore.ErrFormat},
		{"disk.raw", at(8192, -512, "conectix"), "VHD", vdcore.ErrUnsupported},
		{"disk.img", at(8191, -511, "conectix"), "VHD", vdcore.ErrUnsupported},
		{"disk.img", at(8192, 0, "conectix"), "VHD", vdcore.ErrUnsupported},
		{"disk.img", at(8192, 0, "QFI\xfb"), "QCOW", vdcore.ErrUnsupported},
		{"disk.img", at(8192, 0, "vhdxfile"), "VHDX", vdcore.ErrUnsupported},
		{"disk.dmg", koly, "DMG", vdcore.ErrUnsupported},
		{"empty.raw", nil, "", vdcore.ErrFormat},
	} {
		b, err := vdcore.Probe(sample(c.name, c.content))
		switch {
		case c.err == nil && (err != nil || b.Name != c.want):
			t.Errorf("%s %.12q: %q, %v; want %s", c.name, c.content, b.Name, err, c.want)
		case c.err != nil && (!errors.Is(err, c.err) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s %.12q: %q, %v; want %v naming %q", c.name, c.content, b.Name, err, c.err, c.want)
		}
	}
}

func TestFormatForced(t *testing.T) {
	fs := vdtest.NewMem()
	fs.Put("/d/notes.vdi", []byte("just text"))
	wantError(t, fs, "/d/notes.vdi", vdcore.Options{}, vdcore.ErrFormat, "--format raw")
	wantContent(t, openMem(t, fs, "/d/notes.vdi", vdcore.Options{Format: "raw"}), []byte("just text"))
	wantError(t, fs, "/d/notes.vdi", vdcore.Options{Format: "nonsense"}, vdcore.ErrUnsupported, "vdi")
}

func TestRegisterTwice(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a second backend of one name was registered")
		}
	}()
	vdcore.Register(vdcore.Backend{Name: "raw"})
}
