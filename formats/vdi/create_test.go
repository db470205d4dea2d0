package vdi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

func created(t *testing.T, args vdcore.CreateArgs) *session {
	t.Helper()
	m := vdtest.NewMem()
	args.FS, args.Path = m, "/a.vdi"
	if err := create(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	if n := m.OpenFiles(); n != 0 {
		t.Errorf("%d files left open", n)
	}
	file, err := m.Open("/a.vdi", storage.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	return &session{t, m, openFile(t, file)}
}

func TestCreateBase(t *testing.T) {
	id := uuid.New()
	s := created(t, vdcore.CreateArgs{Capacity: 5<<20 + 512, UUID: id})
	h := s.check("f f f f f f", 0, 0, 0, 0, 0, 0)
	want := header{
		Banner: strings.TrimSpace(newBanner), Version: newVersion, HeaderSize: 400, Type: typeDynamic,
		OffMap: 1 << 20, OffData: 2 << 20, PCHS: geometry{SectorSize: 512}, LCHS: &geometry{SectorSize: 512},
		DiskSize: 5<<20 + 512, BlockSize: 1 << 20, Blocks: 6, UUID: id, ModUUID: h.ModUUID,
	}
	if got, want := text(t, h), text(t, &want); got != want || h.ModUUID == uuid.Nil {
		t.Errorf("header %s, want %s", got, want)
	}
	s.must(s.w.Begin(true))
	s.commit(s.put(5, 50))
	s.check("f f f f f 0", 0, 0, 0, 0, 0, 50)
}

func text(t *testing.T, h *header) string {
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCreateChild(t *testing.T) {
	parent := vdcore.Info{Format: "vdi", Identity: vdcore.Identity{UUID: uuid.New(), ModUUID: uuid.New()}, LCHS: vdcore.Geometry{Cylinders: 8, Heads: 9, Sectors: 10}}
	s := created(t, vdcore.CreateArgs{Capacity: 4 << 40, UUID: uuid.New(), Parent: &vdcore.CreateParent{Info: &parent}})
	h, info := s.w.header, s.w.Info()
	if h.Type != typeDiff || info.Parent == nil || info.Parent.UUID != parent.UUID || info.Parent.ModUUID != parent.ModUUID || info.LCHS != parent.LCHS {
		t.Errorf("header %s", text(t, h))
	}
	if h.OffData != 17<<20 || len(s.m.Bytes("/a.vdi")) != 17<<20 {
		t.Errorf("data at %d, file of %d bytes", h.OffData, len(s.m.Bytes("/a.vdi")))
	}
	if m := s.m.Bytes("/a.vdi")[1<<20 : 17<<20]; len(bytes.Trim(m, "\xFF")) > 0 {
		t.Error("the map is not free all over")
	}
}

func TestCreateRefused(t *testing.T) {
	for name, c := range map[string]struct {
		capacity int64
		parent   *vdcore.CreateParent
		word     string
	}{
		"odd":     {1<<20 + 1, nil, "whole sectors"},
		"empty":   {0, nil, "whole sectors"},
		"huge":    {1 << 50, nil, "whole sectors"},
		"no UUID": {1 << 20, &vdcore.CreateParent{Info: &vdcore.Info{Format: "raw"}}, "by UUID"},
	} {
		m := vdtest.NewMem()
		err := create(t.Context(), vdcore.CreateArgs{FS: m, Path: "/a.vdi", Capacity: c.capacity, UUID: uuid.New(), Parent: c.parent})
		if names, _ := m.List("/"); !errors.Is(err, vdcore.ErrUnsupported) || !strings.Contains(err.Error(), c.word) || len(names) > 0 {
			t.Errorf("%s: %v, files %v", name, err, names)
		}
	}
	m := vdtest.NewMem()
	m.Put("/a.vdi", []byte("mine"))
	err := create(t.Context(), vdcore.CreateArgs{FS: m, Path: "/a.vdi", Capacity: 1 << 20, UUID: uuid.New()})
	if !errors.Is(err, fs.ErrExist) || string(m.Bytes("/a.vdi")) != "mine" {
		t.Errorf("a file is there: %v, now %q", err, m.Bytes("/a.vdi"))
	}
}

// TestCreateLargest: what is refused is what the header cannot say, or VirtualBox.
func TestCreateLargest(t *testing.T) {
	for block, most := range map[int64]int64{512 << 10: maxMap / 4 * 512 << 10, 1 << 20: maxMap / 4 << 20, 8 << 20: maxCapacity} {
		args := vdcore.CreateArgs{Capacity: most, BlockSize: block, UUID: uuid.New()}
		h, err := newHeader(args)
		if err != nil || h.OffData > 4095<<20 {
			t.Fatalf("blocks of %d: data at %d, %v", block, h.OffData, err)
		}
		if back, err := parseHeader(h.encode()); err != nil || back.OffData != h.OffData || back.capacity() != most {
			t.Errorf("blocks of %d: %v, %v", block, back, err)
		}
		args.Capacity += 512
		if _, err := newHeader(args); !errors.Is(err, vdcore.ErrUnsupported) {
			t.Errorf("blocks of %d, more than %d bytes: %v", block, most, err)
		}
	}
}

// failingFS makes files nothing can be written to.
type failingFS struct{ *vdtest.Mem }

func (f failingFS) Open(path string, mode storage.Mode) (storage.File, error) {
	file, err := f.Mem.Open(path, mode)
	return &failing{File: file, fail: true}, err
}

func TestCreateFails(t *testing.T) {
	m := failingFS{vdtest.NewMem()}
	err := create(t.Context(), vdcore.CreateArgs{FS: m, Path: "/a.vdi", Capacity: 1 << 20, UUID: uuid.New()})
	if names, _ := m.List("/"); !errors.Is(err, errTest) || len(names) > 0 || m.OpenFiles() != 0 {
		t.Errorf("%v; files %v, %d open", err, names, m.OpenFiles())
	}
}

// TestQEMU: qemu-img finds nothing to complain about in an image that was created,
// written and finished, and reads the same bytes.
func TestQEMU(t *testing.T) {
	s := created(t, vdcore.CreateArgs{Capacity: 5<<20 + 512, UUID: uuid.New()})
	s.must(s.w.Begin(true))
	s.commit(s.put(4, 40), s.put(0, 10), s.put(2, 20))
	s.commit(s.drop(4, vdcore.Zero), s.put(5, 50))
	s.commit(s.drop(0, vdcore.Free))
	s.must(s.w.Finish())
	s.check("f f 0 f z 1", 0, 0, 20, 0, 0, 50)
	dir := t.TempDir()
	image, raw := filepath.Join(dir, "a.vdi"), filepath.Join(dir, "a.raw")
	s.must(os.WriteFile(image, s.m.Bytes("/a.vdi"), 0o600))
	vdtest.QEMUImg(t, "check", "-f", "vdi", image)
	vdtest.QEMUImg(t, "convert", "-f", "vdi", "-O", "raw", image, raw)
	got, err := os.ReadFile(raw)
	s.must(err)
	flat := make([]byte, s.w.Info().Capacity)
	s.must(vdtest.Stack{s.w}.ReadAt(flat, 0))
	if !bytes.Equal(got, flat) {
		t.Error("qemu-img reads other bytes")
	}
}
