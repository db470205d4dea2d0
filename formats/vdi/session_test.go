package vdi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

const testBlock = 128 << 10 // bytes, the smallest there is

// session is an image being written, in memory, by a chain of few words.
type session struct {
	t testing.TB
	m *vdtest.Mem
	w *writer
}

func write(t testing.TB, image []byte) *session {
	t.Helper()
	m := vdtest.NewMem()
	m.Put("/a.vdi", image)
	f, err := m.Open("/a.vdi", storage.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	return &session{t, m, openFile(t, f)}
}

func openFile(t testing.TB, f storage.File) *writer {
	t.Helper()
	img, err := open(vdcore.OpenArgs{File: f, Path: "/a.vdi", Tables: vdcore.NewTables(), Write: true})
	if err != nil {
		t.Fatal(err)
	}
	return img.(*writer)
}

func (s *session) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// put reserves a place for a block and fills it.
func (s *session) put(block int64, fill byte) vdcore.Change {
	s.t.Helper()
	u := s.w.Unit(block * int64(s.w.header.BlockSize))
	p, err := s.w.Reserve(u)
	s.must(err)
	_, err = s.w.file.WriteAt(bytes.Repeat([]byte{fill}, int(u.Len)), p.Pos)
	s.must(err)
	return vdcore.Change{Unit: u, Kind: vdcore.Data, Place: p}
}

// drop is the change that gives a block up.
func (s *session) drop(block int64, kind vdcore.Kind) vdcore.Change {
	return vdcore.Change{Unit: s.w.Unit(block * int64(s.w.header.BlockSize)), Kind: kind}
}

func (s *session) commit(changes ...vdcore.Change) {
	s.t.Helper()
	var gone []vdcore.Extent
	for _, c := range changes {
		old, err := s.w.Map(nil, c.Unit.Off, c.Unit.Len)
		s.must(err)
		if old[0].Kind == vdcore.Data {
			gone = append(gone, old[0])
		}
	}
	s.must(s.w.Prepare(changes))
	s.must(s.w.file.DataSync())
	s.must(s.w.Publish(changes))
	s.must(s.w.file.DataSync())
	for _, e := range gone {
		s.must(storage.Zero(s.w.file, e.Pos, e.Len))
		s.w.Release(vdcore.Place{Pos: e.Pos})
	}
}

// content opens what is stored for reading, and returns a byte for each block: the
// one the block is full of.
func content(t testing.TB, stored []byte) (h *header, fills []byte) {
	t.Helper()
	img, err := openBytes(stored)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if d, w := img.Info().Damage, img.Info().Warnings; len(d)+len(w) > 0 {
		t.Fatalf("damage %v, warnings %v", d, w)
	}
	flat := make([]byte, img.Info().Capacity)
	if err := (vdtest.Stack{img}).ReadAt(flat, 0); err != nil {
		t.Fatal(err)
	}
	size := int(img.Info().BlockSize)
	for len(flat) > 0 {
		b := flat[:min(size, len(flat))]
		if bytes.Count(b, b[:1]) < len(b) {
			t.Fatalf("block %d is mixed", len(fills))
		}
		fills, flat = append(fills, b[0]), flat[len(b):]
	}
	return img.(*image).header, fills
}

// entriesOf is the map as stored.
func entriesOf(h *header, stored []byte) string {
	var list []string
	for n := range uint64(h.Blocks) {
		switch e := binary.LittleEndian.Uint32(stored[h.OffMap+4*n:]); e {
		case entryFree:
			list = append(list, "f")
		case entryZero:
			list = append(list, "z")
		default:
			list = append(list, fmt.Sprint(e))
		}
	}
	return strings.Join(list, " ")
}

// check compares what is stored with a map and the blocks' bytes.
func (s *session) check(entries string, fills ...byte) *header {
	s.t.Helper()
	stored := s.m.Bytes("/a.vdi")
	h, got := content(s.t, stored)
	if e := entriesOf(h, stored); e != entries || !bytes.Equal(got, fills) {
		s.t.Errorf("map %q with %v, want %q with %v", e, got, entries, fills)
	}
	return h
}

// dense fails unless the image is as VirtualBox leaves one: n slots, all in use.
func (s *session) dense(n int64) {
	s.t.Helper()
	h, _ := content(s.t, s.m.Bytes("/a.vdi"))
	if size := int64(len(s.m.Bytes("/a.vdi"))); int64(h.Allocated) != n || size != int64(h.OffData)+n*h.slotSize() {
		s.t.Errorf("%d slots counted, file of %d bytes, want %d slots", h.Allocated, size, n)
	}
}

func slot(fill byte) []byte { return bytes.Repeat([]byte{fill}, testBlock) }

// six is an image of five and a half blocks: a map over slots full of 1, 2, 3, …
func six(entries ...uint32) *vdtest.VDI {
	v := &vdtest.VDI{Capacity: 11 * testBlock / 2, BlockSize: testBlock, ID: uuid.New(), Mod: uuid.New(), Map: entries}
	for _, e := range entries {
		for e < entryZero && int(e) >= len(v.Slots) {
			v.Slots = append(v.Slots, slot(byte(len(v.Slots)+1)))
		}
	}
	return v
}

const f, z = vdtest.VDIFree, vdtest.VDIZero
