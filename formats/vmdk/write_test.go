package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// mem puts the files into a file system in memory; they are copied.
func (fs files) mem() *vdtest.Mem {
	m := vdtest.NewMem()
	for n, b := range fs {
		m.Put(filepath.Join("/vm", n), bytes.Clone(b))
	}
	return m
}

// openFor opens an image of /vm for writing. A failed open must leave no file open.
func openFor(fsys storage.FS, name string) (*writer, error) {
	path := filepath.Join("/vm", name)
	f, err := fsys.Open(path, storage.ReadWrite)
	if err != nil {
		return nil, err
	}
	img, err := open(vdcore.OpenArgs{File: f, Path: path, FS: fsys.Below("/vm"), Tables: vdcore.NewTables(), Write: true})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return img.(*writer), nil
}

// reads opens an image of /vm read-only and returns its content.
func reads(t testing.TB, fsys storage.FS, name string) []byte {
	t.Helper()
	path := filepath.Join("/vm", name)
	f, err := fsys.Open(path, storage.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	img, err := open(vdcore.OpenArgs{File: f, Path: path, FS: fsys.Below("/vm"), Tables: vdcore.NewTables()})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if d := img.Info().Damage; len(d) > 0 {
		t.Fatalf("damage: %v", d)
	}
	return content(t, img)
}

// mini is as much of a chain as a format's writer needs: it writes whole units, and
// keeps what the disk shall show.
type mini struct {
	*writer
	t    testing.TB
	flat []byte
	todo []vdcore.Change
	gone []vdcore.Place
}

func begin(t testing.TB, w *writer, err error) *mini {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	flat := content(t, w)
	if err := w.Begin(true); err != nil {
		t.Fatal(err)
	}
	return &mini{writer: w, t: t, flat: flat}
}

// put writes the unit at off, in place if the image holds it.
func (m *mini) put(off int64, data []byte) {
	m.t.Helper()
	u := m.Unit(off)
	data = data[:u.Len]
	m.drop(u)
	held, err := m.Map(nil, u.Off, u.Len)
	if err != nil {
		m.t.Fatal(err)
	}
	p := vdcore.Place{File: held[0].File, Pos: held[0].Pos}
	switch {
	case u.Fixed:
		p = u.Place
	case held[0].Kind != vdcore.Data || m.retired(p):
		if p, err = m.Reserve(u); err != nil {
			m.t.Fatal(err)
			return // where the power may go, t is quiet
		}
		m.todo = append(m.todo, vdcore.Change{Unit: u, Kind: vdcore.Data, Place: p})
		m.blank(p, u)
	}
	if p.File != u.Place.File {
		m.t.Fatalf("unit %+v, place %+v", u, p)
	}
	if _, err := m.files[p.File].WriteAt(data, p.Pos); err != nil {
		m.t.Fatal(err)
	}
	copy(m.flat[u.Off:u.End()], data)
}

// blank checks that a fresh place reads as zeros.
func (m *mini) blank(p vdcore.Place, u vdcore.Unit) {
	m.t.Helper()
	b := make([]byte, u.Len)
	n, _ := m.files[p.File].ReadAt(b, p.Pos)
	if len(bytes.Trim(b[:n], "\x00")) > 0 {
		m.t.Fatalf("the place %+v does not read as zeros", p)
	}
}

// drop takes back what is to become of a unit.
func (m *mini) drop(u vdcore.Unit) {
	m.todo = slices.DeleteFunc(m.todo, func(c vdcore.Change) bool {
		if c.Unit != u {
			return false
		}
		if c.Kind == vdcore.Data {
			if err := m.giveBack(c.Place); err != nil {
				m.t.Fatal(err)
			}
		}
		return true
	})
}

func (m *mini) giveBack(p vdcore.Place) error {
	err := storage.Zero(m.files[p.File], p.Pos, m.grainOf(p))
	if err == nil {
		m.Release(p)
	}
	return err
}

func (m *mini) grainOf(p vdcore.Place) int64 {
	for _, g := range m.sparse() {
		if g.index == p.File {
			return g.grain
		}
	}
	m.t.Fatalf("no grains in file %d", p.File)
	return 0
}

func (m *mini) retired(p vdcore.Place) bool { return slices.Contains(m.gone, p) }

// make turns the unit at off into Free or Zero.
func (m *mini) make(off int64, kind vdcore.Kind) {
	m.t.Helper()
	if !m.Can(kind) {
		m.t.Fatalf("cannot make %v", kind)
	}
	u := m.Unit(off)
	m.drop(u)
	held, err := m.Map(nil, u.Off, u.Len)
	if err != nil {
		m.t.Fatal(err)
	}
	if p := (vdcore.Place{File: held[0].File, Pos: held[0].Pos}); held[0].Kind == vdcore.Data && !m.retired(p) {
		m.gone = append(m.gone, p)
	}
	m.todo = append(m.todo, vdcore.Change{Unit: u, Kind: kind})
	clear(m.flat[u.Off:u.End()])
}

// commit is the chain's.
func (m *mini) commit() error {
	for _, step := range []func() error{
		func() error { return m.Prepare(m.todo) }, m.barrier,
		func() error { return m.Publish(m.todo) }, m.barrier,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	m.todo = nil
	for len(m.gone) > 0 {
		if err := m.giveBack(m.gone[0]); err != nil {
			return err
		}
		m.gone = m.gone[1:]
	}
	return nil
}

func (m *mini) barrier() error {
	for _, f := range m.files {
		if err := f.DataSync(); err != nil {
			return err
		}
	}
	return nil
}

func (m *mini) mustCommit() {
	m.t.Helper()
	if err := m.commit(); err != nil {
		m.t.Fatal(err)
	}
}

// finish commits and closes; the map must show the content all along.
func (m *mini) finish() {
	m.t.Helper()
	m.mustCommit()
	if got := content(m.t, m.writer); !bytes.Equal(got, m.flat) {
		m.t.Fatal("the open image does not show what was written")
	}
	if err := errors.Join(m.Finish(), m.Close()); err != nil {
		m.t.Fatal(err)
	}
}

// checkClosed looks at a hosted sparse file after Finish: closed, and nothing behind
// what is in use.
func checkClosed(t testing.TB, b []byte) {
	t.Helper()
	if b[uncleanAt] != 0 || b[flagsAt]&flagSpare == 0 {
		t.Error("still marked as open, or its redundant set is out of use")
	}
	if used := checkSets(t, b); len(b) > used {
		t.Errorf("%d bytes behind what is in use at %d", len(b)-used, used)
	}
}

// checkSets checks that both sets of tables are equal, and returns where what is in
// use ends.
func checkSets(t testing.TB, b []byte) (used int) {
	t.Helper()
	h, err := parseHosted(b)
	if err != nil {
		t.Fatal(err)
	}
	used = int(h.Overhead) * sector
	le := binary.LittleEndian
	for i := range h.entries() {
		at, spare := le.Uint32(b[h.Directory*sector+i*4:]), le.Uint32(b[h.SpareDirectory*sector+i*4:])
		if (at == 0) != (spare == 0) || at != 0 && at == spare {
			t.Fatalf("directory entries %d and %d", at, spare)
		}
		if at == 0 {
			continue
		}
		n := int(h.EntriesPerTable) * 4
		table := b[int(at)*sector:][:n]
		if !bytes.Equal(table, b[int(spare)*sector:][:n]) {
			t.Fatalf("the copies of table %d differ", i)
		}
		used = max(used, int(at)*sector+n, int(spare)*sector+n)
		for k := 0; k < n; k += 4 {
			if entry := int(le.Uint32(table[k:])); entry > 1 {
				used = max(used, (entry+int(h.GrainSize))*sector)
			}
		}
	}
	return used
}

// TestWriteSparse: data, zeros and nothing, into a small image, and what its files
// look like meanwhile and afterwards.
func TestWriteSparse(t *testing.T) {
	fsys := files{"disk.vmdk": small().bytes()}.mem()
	w, err := openFor(fsys, "disk.vmdk")
	m := begin(t, w, err)
	if fsys.Bytes("/vm/disk.vmdk")[uncleanAt] != 1 {
		t.Error("not marked as open")
	}
	if _, err := m.Reserve(vdcore.Unit{Off: 8192}); err != nil { // given up again
		t.Fatal(err)
	}
	m.put(1*4096, stamp(11, 4096)) // was zeros
	m.put(2*4096, stamp(12, 4096)) // was free
	m.put(3*4096, stamp(13, 4096)) // the clipped one, in place
	m.mustCommit()
	m.make(0, vdcore.Free)
	m.make(1*4096, vdcore.Zero)
	m.mustCommit()
	m.put(1*4096, stamp(21, 4096))
	if p := m.todo[0].Place.Pos; p != 136*512 { // grain 0 lay there
		t.Errorf("a place that was given back is not used again, but %d", p)
	}
	m.finish()
	checkClosed(t, fsys.Bytes("/vm/disk.vmdk"))
	if got := reads(t, fsys, "disk.vmdk"); !bytes.Equal(got, m.flat) {
		t.Error("the closed image shows something else")
	}
}

// grown is an image of 4 KiB grains with four tables. The second and the third are
// not there; little is in the others.
func grown(r *rand.Rand) []byte {
	h := hosted{capacity: (3*512+40)*8 - 3, grain: 8, grains: scattered(r, 3*512+40, free, zero),
		desc: text("monolithicSparse", `RW 12605 SPARSE "disk.vmdk"`)}
	for i := 100; i < 3*512; i++ {
		h.grains[i] = free
	}
	compactPlaces(h.grains)
	b := h.bytes()
	for _, t := range []int{1, 2} {
		binary.LittleEndian.PutUint32(b[21*512+t*4:], 0)
		binary.LittleEndian.PutUint32(b[(22+16)*512+t*4:], 0)
	}
	return b
}

// compactPlaces numbers the places anew, without gaps.
func compactPlaces(grains []int) {
	n := 0
	for i, p := range grains {
		if p >= 0 {
			grains[i] = n
			n++
		}
	}
}

// TestWriteModel does at random what a chain does, with tables that are not there
// yet, and opens the image again and again.
func TestWriteModel(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	fsys := files{"disk.vmdk": grown(r)}.mem()
	for range 6 {
		w, err := openFor(fsys, "disk.vmdk")
		m := begin(t, w, err)
		for range 300 {
			off := r.Int64N(m.info.Capacity)
			switch r.IntN(8) {
			case 0:
				m.make(off, vdcore.Free)
			case 1:
				m.make(off, vdcore.Zero)
			case 2:
				m.mustCommit()
			default:
				m.put(off, stamp(r.IntN(1e6), 4096))
			}
		}
		m.finish()
		checkClosed(t, fsys.Bytes("/vm/disk.vmdk"))
		if got := reads(t, fsys, "disk.vmdk"); !bytes.Equal(got, m.flat) {
			t.Fatal("the closed image shows something else")
		}
	}
	if n := fsys.OpenFiles(); n != 0 {
		t.Errorf("%d files left open", n)
	}
}

// TestGivenBack: an image that loses all its grains is as short as an empty one.
func TestGivenBack(t *testing.T) {
	fsys := files{"disk.vmdk": small().bytes()}.mem()
	w, err := openFor(fsys, "disk.vmdk")
	m := begin(t, w, err)
	for i := range int64(3) {
		m.put(i*4096, stamp(int(i), 4096))
	}
	m.mustCommit()
	for i := range int64(4) {
		m.make(i*4096, vdcore.Free)
	}
	m.finish()
	if n := len(fsys.Bytes("/vm/disk.vmdk")); n != 128*512 {
		t.Errorf("%d bytes", n)
	}
}

// split is a set of two sparse pieces and a flat one, with a descriptor of its own.
func split() files {
	a := hosted{capacity: 64, grain: 8, grains: []int{0, free, free, free, free, free, free, 1}}
	b := hosted{capacity: 31, grain: 16, grains: []int{free, 0}}
	return files{
		"disk-s001.vmdk": a.bytes(), "disk-s002.vmdk": b.bytes(), "disk-f003.vmdk": stamp(3, 24*512),
		"disk.vmdk": text("custom", `RW 64 SPARSE "disk-s001.vmdk"`, `RW 31 SPARSE "disk-s002.vmdk"`, `RW 16 FLAT "disk-f003.vmdk" 8`),
	}
}

func TestWriteSplit(t *testing.T) {
	fsys := split().mem()
	w, err := openFor(fsys, "disk.vmdk")
	m := begin(t, w, err)
	for _, name := range []string{"disk-s001.vmdk", "disk-s002.vmdk"} {
		if fsys.Bytes("/vm/" + name)[uncleanAt] != 1 {
			t.Errorf("%s is not marked as open", name)
		}
	}
	for _, c := range []struct {
		off  int64
		want vdcore.Unit
	}{
		{5000, vdcore.Unit{Off: 4096, Len: 4096, Place: vdcore.Place{File: 1}}},
		{64 * 512, vdcore.Unit{Off: 64 * 512, Len: 8192, Place: vdcore.Place{File: 2}}},
		{95*512 - 1, vdcore.Unit{Off: 80 * 512, Len: 15 * 512, Place: vdcore.Place{File: 2}}},
		{95 * 512, vdcore.Unit{Off: 95 * 512, Len: 16 * 512, Fixed: true, Place: vdcore.Place{File: 3, Pos: 8 * 512}}},
	} {
		if got := m.Unit(c.off); got != c.want {
			t.Errorf("unit of %d: %+v, want %+v", c.off, got, c.want)
		}
	}
	for _, off := range []int64{4096, 0, 64 * 512, 80 * 512, 95 * 512} {
		m.put(off, bytes.Repeat([]byte("written "), 2048))
	}
	m.make(7*4096, vdcore.Free)
	m.finish()
	checkClosed(t, fsys.Bytes("/vm/disk-s001.vmdk"))
	checkClosed(t, fsys.Bytes("/vm/disk-s002.vmdk"))
	if got := reads(t, fsys, "disk.vmdk"); !bytes.Equal(got, m.flat) {
		t.Error("the closed image shows something else")
	}
	flat := fsys.Bytes("/vm/disk-f003.vmdk")
	if want := stamp(3, 24*512); !bytes.Equal(flat[:8*512], want[:8*512]) || bytes.Equal(flat[8*512:], want[8*512:]) {
		t.Error("the flat piece is not written where it lies")
	}
}

// TestCan: what one piece cannot, the image cannot.
func TestCan(t *testing.T) {
	v1 := put32(8, 3)(put32(4, 1)(split()["disk-s002.vmdk"]))
	noZeros := split()
	noZeros["disk-s002.vmdk"] = v1
	flat := files{"disk.vmdk": text("monolithicFlat", `RW 16 FLAT "flat.vmdk" 0`), "flat.vmdk": stamp(0, 8192)}
	for _, c := range []struct {
		name       string
		fs         files
		zero, free bool
	}{{"sparse", split(), true, true}, {"one without zeros", noZeros, false, true}, {"flat", flat, false, false}} {
		w, err := openFor(c.fs.mem(), "disk.vmdk")
		if err != nil {
			t.Fatal(err)
		}
		if w.Can(vdcore.Zero) != c.zero || w.Can(vdcore.Free) != c.free || w.Can(vdcore.Data) {
			t.Errorf("%s: Zero %v, Free %v", c.name, w.Can(vdcore.Zero), w.Can(vdcore.Free))
		}
		w.Close()
	}
}

// TestStaleTail: what a crash left behind everything in use does not come back.
func TestStaleTail(t *testing.T) {
	sound := small().bytes()
	fsys := files{"disk.vmdk": append(bytes.Clone(sound), stamp(9, 5*4096+77)...)}.mem()
	w, err := openFor(fsys, "disk.vmdk")
	m := begin(t, w, err)
	if n := len(fsys.Bytes("/vm/disk.vmdk")); n != len(sound) {
		t.Errorf("%d bytes after Begin, %d are in use", n, len(sound))
	}
	u := m.Unit(8192)
	p, err := m.Reserve(u)
	if err != nil {
		t.Fatal(err)
	}
	m.todo = append(m.todo, vdcore.Change{Unit: u, Kind: vdcore.Data, Place: p})
	m.finish() // the unit is all zeros, as before
}

// TestReadOnlyIsNoWriter: who did not ask for one gets none.
func TestReadOnlyIsNoWriter(t *testing.T) {
	for name, fs := range map[string]files{"sparse": {"disk.vmdk": small().bytes()}, "split": split()} {
		if _, ok := fs.must(t, "disk.vmdk").(vdcore.Writer); ok {
			t.Errorf("%s: a writer", name)
		}
	}
}
