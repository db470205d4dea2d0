package imgops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	_ "vdfs/formats/all"
	"vdfs/vdcore"
	"vdfs/vdcore/vdtest"
)

// eachMaking runs a test for every variant that can be made and has no parent.
func eachMaking(t *testing.T, test func(t *testing.T, b vdcore.Backend, m vdcore.Making)) {
	for _, b := range vdcore.Backends() {
		for _, m := range b.Makes {
			if m.Name != vdcore.Differencing {
				t.Run(b.Name+"-"+m.Name, func(t *testing.T) { test(t, b, m) })
			}
		}
	}
}

// allOptions are those the variant takes.
func allOptions(m vdcore.Making) CreateOptions {
	o := CreateOptions{Variant: m.Name}
	if m.Takes(vdcore.OptUUID) {
		o.UUID = uuid.New()
	}
	if m.Takes(vdcore.OptComment) {
		o.Comment = "Größe: 盤 \\ 5"
	}
	if m.Takes(vdcore.OptGeometry) {
		o.PCHS = vdcore.Geometry{Cylinders: 11, Heads: 15, Sectors: 62}
	}
	if m.Takes(vdcore.OptLCHS) {
		o.LCHS = vdcore.Geometry{Cylinders: 3, Heads: 255, Sectors: 63}
	}
	return o
}

// TestCreate: every variant is what was asked for, is empty, and QEMU sees the same,
// before it is written to and after.
func TestCreate(t *testing.T) {
	eachMaking(t, func(t *testing.T, b vdcore.Backend, m vdcore.Making) {
		for _, capacity := range []int64{512, 5<<20 + 512} {
			path := filepath.Join(t.TempDir(), "disk"+b.Extensions[0])
			o := allOptions(m)
			o.Capacity = capacity
			if err := Create(t.Context(), path, o, nil); err != nil {
				t.Fatal(err)
			}
			flat := make([]byte, capacity)
			looks(t, path, o, m)
			agrees(t, path, b, flat)
			if c, err := vdcore.Open(path, vdcore.Options{Write: true}); err == nil {
				scribble(t, c, flat)
				agrees(t, path, b, flat)
			} else if m.Flags&vdcore.FlagStream == 0 {
				t.Fatal(err)
			}
		}
	})
}

// looks compares what the image says of itself with what was asked for.
func looks(t *testing.T, path string, o CreateOptions, m vdcore.Making) {
	t.Helper()
	c, err := vdcore.Open(path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	i := c.Top().Layer().Info()
	if i.Capacity != o.Capacity || i.Variant != m.Variant || i.ImageFlags() != m.Flags {
		t.Errorf("%d bytes, %s, flags %v", i.Capacity, i.Variant, i.ImageFlags().Names())
	}
	if i.UUID != o.UUID || i.Comment != o.Comment || i.PCHS != o.PCHS || i.LCHS != o.LCHS {
		t.Errorf("UUID %s, comment %q, geometry %v and %v", i.UUID, i.Comment, i.PCHS, i.LCHS)
	}
	if len(i.Warnings)+len(i.Notes)+len(i.Damage)+len(c.Warnings()) > 0 {
		t.Errorf("%v %v %v %v", i.Warnings, i.Notes, i.Damage, c.Warnings())
	}
	d := c.Top().Layer().Describe()
	if d.Modified == "" || d.ImageFlags.Value != uint32(m.Flags) || !slices.Equal(d.OpenFlags.Names, []string{"READONLY"}) {
		t.Errorf("%+v", d)
	}
}

// scribble writes here and there, closes the chain, and keeps flat in step.
func scribble(t *testing.T, c *vdcore.Chain, flat []byte) {
	t.Helper()
	for i, off := range []int64{0, int64(len(flat)) / 2 / 512 * 512, int64(len(flat)) - 512} {
		p := bytes.Repeat([]byte{byte(i + 1)}, 512)
		copy(flat[off:], p)
		if _, err := c.Top().WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// agrees has this program and QEMU read the image, and QEMU check it.
func agrees(t *testing.T, path string, b vdcore.Backend, flat []byte) {
	t.Helper()
	c, err := vdcore.Open(path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(flat))
	_, err = c.Top().ReadAt(got, 0)
	if err := errors.Join(err, c.Close()); err != nil || !bytes.Equal(got, flat) {
		t.Errorf("reads as something else, %v", err)
	}
	raw := filepath.Join(t.TempDir(), "flat")
	if err := os.WriteFile(raw, flat, 0o600); err != nil {
		t.Fatal(err)
	}
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal(vdtest.QEMUImg(t, "info", "--output=json", "-f", b.Name, path), &info); err != nil {
		t.Fatal(err)
	}
	if n := int64(len(flat)); info.Size < n || info.Size >= n+64<<10 { // sparse VMDK extents have whole grains for QEMU
		t.Errorf("QEMU sees %d bytes of %d", info.Size, n)
	}
	vdtest.QEMUImg(t, "compare", "-f", b.Name, "-F", "raw", path, raw)
	if b.Name != "raw" {
		vdtest.QEMUImg(t, "check", "-f", b.Name, path)
	}
}

// TestCreateBlockSize: other blocks than the usual ones.
func TestCreateBlockSize(t *testing.T) {
	for _, block := range []int64{512 << 10, 2 << 20, 8 << 20} {
		for _, variant := range []string{"dynamic", "fixed"} {
			path := filepath.Join(t.TempDir(), "disk.vdi")
			if err := Create(t.Context(), path, CreateOptions{Capacity: 20<<20 + 512, BlockSize: block, Variant: variant}, nil); err != nil {
				t.Fatal(err)
			}
			c, err := vdcore.Open(path, vdcore.Options{Write: true})
			if err != nil {
				t.Fatal(err)
			}
			if i := c.Top().Layer().Info(); i.BlockSize != block || i.UUID == uuid.Nil || i.LCHS != (vdcore.Geometry{}) {
				t.Errorf("%+v", i)
			}
			flat := make([]byte, 20<<20+512)
			scribble(t, c, flat)
		}
	}
}

// TestCreateRefused: what cannot be made leaves nothing.
func TestCreateRefused(t *testing.T) {
	geometry := vdcore.Geometry{Cylinders: 1, Heads: 17, Sectors: 1}
	for name, c := range map[string]struct {
		file string
		o    CreateOptions
		want error
	}{
		"extension":       {"a.qcow2", CreateOptions{Capacity: 512}, ErrExtension},
		"no size":         {"a.raw", CreateOptions{}, vdcore.ErrUnsupported},
		"no size, VDI":    {"a.vdi", CreateOptions{}, vdcore.ErrUnsupported},
		"odd":             {"a.vmdk", CreateOptions{Capacity: 513}, vdcore.ErrUnsupported},
		"past the limit":  {"a.vmdk", CreateOptions{Capacity: 256 << 40}, vdcore.ErrUnsupported},
		"too many pieces": {"a.vmdk", CreateOptions{Capacity: 2 << 40, Variant: "split2g"}, vdcore.ErrUnsupported},
		"variant":         {"a.vdi", CreateOptions{Capacity: 512, Variant: "stream"}, vdcore.ErrUnsupported},
		"no parent":       {"a.vdi", CreateOptions{Capacity: 512, Variant: vdcore.Differencing}, vdcore.ErrUnsupported},
		"option":          {"a.raw", CreateOptions{Capacity: 512, Comment: "x"}, vdcore.ErrUnsupported},
		"option, VMDK":    {"a.vmdk", CreateOptions{Capacity: 512, BlockSize: 1 << 20}, vdcore.ErrUnsupported},
		"block":           {"a.vdi", CreateOptions{Capacity: 512, BlockSize: 3 << 20}, vdcore.ErrUnsupported},
		"geometry":        {"a.vdi", CreateOptions{Capacity: 512, PCHS: geometry}, vdcore.ErrUnsupported},
		"comment":         {"a.vdi", CreateOptions{Capacity: 512, Comment: strings.Repeat("ä", 128)}, vdcore.ErrUnsupported},
		"comment, VMDK":   {"a.vmdk", CreateOptions{Capacity: 512, Comment: strings.Repeat("\\", 513)}, vdcore.ErrUnsupported},
		"quote":           {"a.vmdk", CreateOptions{Capacity: 512, Comment: `a "quote"`}, vdcore.ErrUnsupported},
		"folder":          {"none/a.vdi", CreateOptions{Capacity: 512}, fs.ErrNotExist},
	} {
		dir := t.TempDir()
		err := Create(t.Context(), filepath.Join(dir, c.file), c.o, nil)
		if list, _ := os.ReadDir(dir); !errors.Is(err, c.want) || len(list) > 0 {
			t.Errorf("%s: %v, left %v", name, err, list)
		}
	}
}

// TestCreateOverFile: no file is overwritten, whichever of the image's it would be.
func TestCreateOverFile(t *testing.T) {
	for mine, variant := range map[string]string{"disk.vmdk": "fixed", "disk-flat.vmdk": "esx", "disk-s001.vmdk": "split2g"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, mine), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Create(t.Context(), filepath.Join(dir, "disk.vmdk"), CreateOptions{Capacity: 512, Variant: variant}, nil)
		list, _ := os.ReadDir(dir)
		if got, _ := os.ReadFile(filepath.Join(dir, mine)); !errors.Is(err, fs.ErrExist) || len(list) != 1 || string(got) != "mine" {
			t.Errorf("%s: %v, left %v", mine, err, list)
		}
	}
}

// TestCreateStopped: a preallocation that is stopped leaves nothing.
func TestCreateStopped(t *testing.T) {
	eachMaking(t, func(t *testing.T, b vdcore.Backend, m vdcore.Making) {
		if m.Flags&vdcore.FlagFixed == 0 || m.Name == "sparse" {
			return
		}
		dir := t.TempDir()
		ctx, stop := context.WithCancel(t.Context())
		told := 0
		err := Create(ctx, filepath.Join(dir, "disk"+b.Extensions[0]), CreateOptions{Capacity: 3 << 30, Variant: m.Name}, func(done, total int64) {
			if told++; done <= 0 || done >= total || total < 3<<30 {
				t.Errorf("%d of %d", done, total)
			}
			stop()
		})
		if list, _ := os.ReadDir(dir); !errors.Is(err, context.Canceled) || len(list) > 0 || told != 1 {
			t.Errorf("%v, told %d times, left %v", err, told, list)
		}
	})
}

// TestCapabilities: the bits are VirtualBox's, but for what VirtualBox cannot:
// discarding in VMDK and raw.
func TestCapabilities(t *testing.T) {
	for name, want := range map[string]vdcore.Capabilities{"vdi": 0xE77, "vmdk": 0xA7F | vdcore.CapDiscard, "raw": 0x262 | vdcore.CapDiscard} {
		b, err := vdcore.Lookup(name)
		if got := b.Capabilities(); err != nil || got != want {
			t.Errorf("%s: %#x %v, want %#x; %v", name, uint32(got), got.Names(), uint32(want), err)
		}
		if got := b.Abilities(); !slices.Contains(got, "write") || !slices.Contains(got, "header") || !slices.Contains(got, "create") {
			t.Errorf("%s can %v", name, got)
		}
	}
}
