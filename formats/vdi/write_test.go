package vdi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

func TestWrite(t *testing.T) {
	v := six(f, 0, z, f, f, f)
	s := write(t, v.Bytes())
	s.must(s.w.Begin(true))
	// The last block is short, and its slot is whole all the same.
	s.commit(s.put(0, 10), s.put(2, 20), s.put(5, 50), s.drop(3, vdcore.Zero))
	h := s.check("1 0 2 z f 3", 10, 1, 20, 0, 0, 50)
	if h.UUID != v.ID || h.ModUUID == v.Mod || s.w.Info().ModUUID != v.Mod { // Info stays as it was
		t.Errorf("UUID %v, modification %v, were %v and %v", h.UUID, h.ModUUID, v.ID, v.Mod)
	}
	if s.w.Info().FileSize >= int64(len(s.m.Bytes("/a.vdi"))) {
		t.Error("Info does not stay as it was")
	}
	s.commit(s.drop(1, vdcore.Zero), s.drop(0, vdcore.Free), s.put(4, 40))
	s.check("f z 2 z 4 3", 0, 0, 20, 0, 40, 50)
	s.commit(s.put(3, 30)) // the lowest given back
	s.check("f z 2 0 4 3", 0, 0, 20, 30, 40, 50)
	s.must(s.w.Finish())
	s.check("f z 2 0 1 3", 0, 0, 20, 30, 40, 50)
	s.dense(4)
	s.must(s.w.Finish()) // nothing to do
	s.commit(s.put(1, 60))
	s.check("f 4 2 0 1 3", 0, 60, 20, 30, 40, 50)
}

// TestKeepIdentity: an image that is not to be renewed and has nothing wrong is not
// written to by Begin and Finish.
func TestKeepIdentity(t *testing.T) {
	before := six(f, 0, z, 1, f, f).Bytes()
	s := write(t, bytes.Clone(before))
	s.must(s.w.Begin(false))
	s.must(s.w.Finish())
	if !bytes.Equal(before, s.m.Bytes("/a.vdi")) {
		t.Error("the file changed")
	}
}

// TestLeaked: slots nothing leads to are zeroed and used first; a tail is cut off
// and a wrong count corrected before anything is written.
func TestLeaked(t *testing.T) {
	for _, extra := range []int64{0, 512} {
		v := six(3, f, f, 1, f, f) // 0 and 2 are leaked
		v.BlockExtra = extra
		v.Slots = append(v.Slots, slot(0xEE), slot(0xEE))
		image := append(v.Bytes(), 0xEE)
		for n := range v.Slots { // garbage in the extra bytes too
			at := v.Bytes()
			for k := range extra {
				image[int64(len(at))-int64(len(v.Slots)-n)*(testBlock+extra)+k] = 0xEE
			}
		}
		s := write(t, image)
		s.must(s.w.Begin(true))
		if h := s.check("3 f f 1 f f", 4, 0, 0, 2, 0, 0); h.Allocated != 4 {
			t.Errorf("%d slots counted, want 4", h.Allocated)
		}
		if size := int64(len(s.m.Bytes("/a.vdi"))); size != s.w.position(4) {
			t.Errorf("file of %d bytes, want %d", size, s.w.position(4))
		}
		for _, want := range []int64{0, 2, 4} {
			p, err := s.w.Reserve(s.w.Unit(0))
			s.must(err)
			if p.Pos != s.w.place(uint32(want)) {
				t.Errorf("place %d, want slot %d at %d", p.Pos, want, s.w.place(uint32(want)))
			}
			b := s.m.Bytes("/a.vdi")
			at := min(s.w.position(want), int64(len(b)))
			if end := min(at+s.w.header.slotSize(), int64(len(b))); bytes.Contains(b[at:end], []byte{0xEE}) {
				t.Errorf("slot %d does not read as zeros", want)
			}
		}
	}
}

// TestPrepareKeepsData: a length that fits some changes must not cut off what is
// on its way into other places.
func TestPrepareKeepsData(t *testing.T) {
	s := write(t, six(f, f, f, f, f, f).Bytes())
	s.must(s.w.Begin(false))
	a, b := s.put(0, 10), s.put(1, 20)
	s.commit(a)
	s.check("0 f f f f f", 10, 0, 0, 0, 0, 0)
	s.commit(b)
	s.check("0 1 f f f f", 10, 20, 0, 0, 0, 0)
	s.w.Release(s.put(2, 30).Place) // given up before it was published
	s.must(s.w.Finish())
	s.dense(2)
}

func TestFinishMoves(t *testing.T) {
	for _, extra := range []int64{0, 512} {
		v := six(5, f, 1, z, 3, 4)
		v.BlockExtra = extra
		s := write(t, v.Bytes())
		s.must(s.w.Begin(true))
		s.must(s.w.Finish())
		s.check("0 f 1 z 3 2", 6, 0, 2, 0, 4, 5)
		s.dense(4)
		s.commit(s.put(1, 10))
		s.check("0 4 1 z 3 2", 6, 10, 2, 0, 4, 5)
		s.dense(5)
	}
}

// TestFarSlots: VirtualBox, filling a disk after a crash, appends slots it does not
// open the image with.
func TestFarSlots(t *testing.T) {
	s := write(t, six(1, 7, 3, f, 5, 6).Bytes())
	s.must(s.w.Begin(true))
	s.commit(s.put(3, 30))
	s.must(s.w.Finish())
	s.check("1 2 3 0 5 4", 2, 8, 4, 30, 6, 7)
	s.dense(6)
}

// TestShortSlot: the last block's slot may end with the disk; nothing but Prepare
// and Finish makes it whole.
func TestShortSlot(t *testing.T) {
	v := six(f, f, f, f, f, 1)
	b := v.Bytes()
	s := write(t, b[:len(b)-testBlock/2])
	s.must(s.w.Begin(true))
	s.check("f f f f f 1", 0, 0, 0, 0, 0, 2)
	s.must(s.w.Finish())
	s.check("f f f f f 0", 0, 0, 0, 0, 0, 2)
	s.dense(1)
}

// TestFixed: a fixed image gives nothing up, and its file is not cut.
func TestFixed(t *testing.T) {
	v := six(0, 1, f, 2, f, 3)
	v.Slots = append(v.Slots, slot(0xEE), slot(0xEE))
	b := append(v.Bytes(), "tail"...)
	binary.LittleEndian.PutUint32(b[76:], typeFixed)
	size := len(b)
	s := write(t, b)
	if s.w.Can(vdcore.Zero) || s.w.Can(vdcore.Free) || s.w.Publish([]vdcore.Change{s.drop(0, vdcore.Zero)}) == nil {
		t.Error("a block of a fixed image can be given up")
	}
	s.must(s.w.Begin(true))
	s.commit(s.put(4, 40))
	s.must(s.w.Finish())
	if h := s.check("0 1 f 2 4 3", 1, 2, 0, 3, 40, 4); h.Allocated != 6 || len(s.m.Bytes("/a.vdi")) != size {
		t.Errorf("%d slots counted, file of %d bytes", h.Allocated, len(s.m.Bytes("/a.vdi")))
	}
}

// TestFull: slot numbers stay below the number of blocks.
func TestFull(t *testing.T) {
	s := write(t, six(0, 1, 2, 3, 4, 5).Bytes())
	s.must(s.w.Begin(true))
	if _, err := s.w.Reserve(s.w.Unit(0)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a slot too many: %v", err)
	}
	s.commit(s.drop(3, vdcore.Free))
	s.commit(s.put(3, 30))
	s.check("0 1 2 3 4 5", 1, 2, 3, 30, 5, 6)
}

// version0Of is the image in the layout of version 0.2.
func version0Of(v *vdtest.VDI) []byte {
	src := v.Bytes()
	b := make([]byte, mapV0, len(src))
	copy(b, src[:72])
	binary.LittleEndian.PutUint32(b[68:], version0)
	copy(b[72:], src[76:84])    // type, flags
	copy(b[336:], src[348:364]) // PCHS
	copy(b[352:], src[368:380]) // disk size, block size
	copy(b[364:], src[384:440]) // blocks, allocated, UUIDs
	b = append(b, src[512:512+4*len(v.Map)]...)
	return append(b, src[(512+4*len(v.Map)+511)&^511:]...)
}

func TestVersion0(t *testing.T) {
	v := six(f, 0, f, f, 2, f)
	s := write(t, version0Of(v))
	s.must(s.w.Begin(true))
	s.commit(s.put(0, 10), s.put(5, 50), s.drop(1, vdcore.Zero))
	h := s.check("1 z f f 2 3", 10, 0, 0, 0, 3, 50)
	if h.ModUUID == v.Mod || h.UUID != v.ID || h.Allocated != 4 {
		t.Errorf("header %+v", h)
	}
	s.must(s.w.Finish())
	s.check("1 z f f 2 0", 10, 0, 0, 0, 3, 50)
	s.dense(3)
}

func TestRefused(t *testing.T) {
	misaligned := six(f, f, f, f, f, f).Bytes()
	binary.LittleEndian.PutUint32(misaligned[340:], 514)
	copy(misaligned[536:], misaligned[512:514]) // the map's last two bytes
	more := six(f, f, f, f, f, f, f)
	for name, c := range map[string]struct {
		image        []byte
		word, remedy string
	}{
		"damage":      {six(0, f, f, f, f, 1).Bytes()[:2000], "damaged", "check --repair"},
		"shared":      {six(0, 0, f, f, f, f).Bytes(), "share", "check --repair"},
		"misaligned":  {misaligned, "two sectors", "--overlay"},
		"more blocks": {more.Bytes(), "entries for a disk of 6 blocks", "--overlay"},
	} {
		m := vdtest.NewMem()
		m.Put("/a.vdi", bytes.Clone(c.image))
		file, err := m.Open("/a.vdi", storage.ReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		img, err := open(vdcore.OpenArgs{File: file, Tables: vdcore.NewTables(), Write: true})
		if img != nil || !errors.Is(err, vdcore.ErrReadOnly) || !strings.Contains(err.Error(), c.word) || !strings.Contains(err.Error(), c.remedy) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(c.image, m.Bytes("/a.vdi")) {
			t.Errorf("%s: the file changed", name)
		}
	}
	if img, err := openBytes(six(f, f, f, f, f, f).Bytes()); err != nil {
		t.Error(err)
	} else if _, ok := img.(vdcore.Writer); ok {
		t.Error("an image opened for reading is a Writer")
	}
}

// failing fails every change once fail is set.
type failing struct {
	storage.File
	fail bool
}

var errTest = errors.New("failed for the test")

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.fail {
		return 0, errTest
	}
	return f.File.WriteAt(p, off)
}

func (f *failing) Truncate(n int64) error {
	if f.fail {
		return errTest
	}
	return f.File.Truncate(n)
}

func (f *failing) Punch(off, n int64) error {
	if f.fail {
		return errTest
	}
	return f.File.Punch(off, n)
}

// TestErrors: what failed can be tried again, and nothing is lost by it.
func TestErrors(t *testing.T) {
	m := vdtest.NewMem()
	v := six(f, 3, f, f, 1, f)
	m.Put("/a.vdi", v.Bytes())
	file, err := m.Open("/a.vdi", storage.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	bad := &failing{File: file}
	s := &session{t, m, openFile(t, bad)}
	twice := func(what string, fn func() error) {
		t.Helper()
		bad.fail = true
		if err := fn(); !errors.Is(err, errTest) {
			t.Errorf("%s: %v", what, err)
		}
		bad.fail = false
		s.must(fn())
	}
	twice("begin", func() error { return s.w.Begin(true) })
	var c vdcore.Change
	twice("reserve", func() error {
		p, err := s.w.Reserve(s.w.Unit(0))
		c = vdcore.Change{Unit: s.w.Unit(0), Kind: vdcore.Data, Place: p}
		return err
	})
	s.put(0, 0) // slot 2
	changes := []vdcore.Change{c, s.put(5, 50)}
	twice("prepare", func() error { return s.w.Prepare(changes) })
	twice("publish", func() error { return s.w.Publish(changes) })
	s.check("0 3 f f 1 4", 0, 4, 0, 0, 2, 50)
	twice("finish", s.w.Finish)
	s.check("0 3 f f 1 2", 0, 4, 0, 0, 2, 50)
	s.dense(4)
}

// TestWrongPlace: a place that was not handed out is refused, not published.
func TestWrongPlace(t *testing.T) {
	s := write(t, six(0, f, f, f, f, f).Bytes())
	s.must(s.w.Begin(false))
	c := s.put(1, 10)
	for _, p := range []vdcore.Place{{Pos: 0}, {Pos: c.Place.Pos + 512}, {Pos: c.Place.Pos + testBlock}, {File: 1, Pos: c.Place.Pos}} {
		if s.w.Publish([]vdcore.Change{{Unit: c.Unit, Kind: vdcore.Data, Place: p}}) == nil {
			t.Errorf("%+v was published", p)
		}
		s.w.Release(p)
	}
	s.check("0 f f f f f", 1, 0, 0, 0, 0, 0)
}

// TestHoles: on a real file system, what moves keeps its holes, and what was in the
// slot it moves to does not shine through them.
func TestHoles(t *testing.T) {
	dir, err := storage.Resolve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "a.vdi")
	if err := os.WriteFile(p, six(1, f, f, f, f, f).Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := storage.NewOS(p)
	if err != nil {
		t.Fatal(err)
	}
	file, err := o.Open(p, storage.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	w := openFile(t, file)
	defer w.Close()
	s := &session{t: t, w: w}
	const hole = 64 << 10
	s.must(w.Begin(true))
	s.must(file.Punch(w.place(1), hole))
	s.must(w.Finish())
	got := make([]byte, testBlock)
	s.must(vdtest.Stack{w}.ReadAt(got, 0))
	if want := append(make([]byte, hole), slot(2)[hole:]...); !bytes.Equal(got, want) {
		t.Error("the block is not what it was")
	}
	st, err := file.Stat()
	s.must(err)
	inside := w.place(0) + 4096 // the file system's blocks are not where the slot's begin
	if data, err := file.NextData(inside); err != nil || st.Size != w.position(1) || data == inside {
		t.Errorf("file of %d bytes, data from %d on (%v)", st.Size, data, err)
	}
}

// TestCheck: what a crash leaves is a leak, what VirtualBox would write over is not.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		change func(v *vdtest.VDI)
		count  uint32          // in the header; 0 leaves it
		want   map[string]bool // code → leak
	}{
		"sound":       {func(*vdtest.VDI) {}, 0, map[string]bool{}},
		"leaked slot": {func(v *vdtest.VDI) { v.Map[3] = vdtest.VDIFree }, 0, map[string]bool{"leaked-slot": true}},
		"leaked tail": {func(v *vdtest.VDI) { v.Map[0] = vdtest.VDIFree }, 0, map[string]bool{"leaked-tail": true}},
		"shared slot": {func(v *vdtest.VDI) { v.Map[2] = 0 }, 0, map[string]bool{"shared-slot": false}},
		"low count":   {func(*vdtest.VDI) {}, 1, map[string]bool{"block-count": false}},
		"high count":  {func(*vdtest.VDI) {}, 3, map[string]bool{"counted-slot": true}},
	} {
		v := small()
		c.change(v)
		b := v.Bytes()
		if c.count > 0 {
			binary.LittleEndian.PutUint32(b[388:], c.count)
		}
		img, err := openBytes(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found, err := img.(vdcore.Checker).Check()
		got := map[string]bool{}
		for _, f := range found {
			got[f.Code] = f.Leak
		}
		if err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: found %v, %v; want %v", name, found, err, c.want)
		}
	}
}

// FuzzWrite: an image of any header and map is refused, or written without harm to
// itself.
func FuzzWrite(f *testing.F) {
	for seed, v := range []*vdtest.VDI{six(0, z, 1, z, vdtest.VDIFree, 2), six(2, 0, z), six(z, z)} {
		f.Add(v.Bytes()[:1024], uint16(len(v.Slots)*256), uint64(seed))
	}
	f.Fuzz(func(t *testing.T, head []byte, sectors uint16, seed uint64) {
		if len(head) > 4096 {
			return
		}
		image := append(head, make([]byte, int(sectors)*512)...)
		for i := len(head); i < len(image); i += 64 {
			image[i] = byte(i >> 6)
		}
		vdtest.FuzzWrite(t, "vdi", map[string][]byte{"/a.vdi": image}, "/a.vdi", seed)
	})
}
