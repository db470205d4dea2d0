package vmdk

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage/crashfs"
	"vdfs/vdcore/vdtest"
)

// renewed opens an image, begins with a renewal, closes it, and returns the first
// file before and after.
func renewed(t *testing.T, fs files) (before, after string) {
	t.Helper()
	fsys := fs.mem()
	w, err := openFor(fsys, "disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Begin(true), w.Finish(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if n := fsys.OpenFiles(); n != 0 {
		t.Errorf("%d files left open", n)
	}
	return string(fs["disk.vmdk"]), string(fsys.Bytes("/vm/disk.vmdk"))
}

// TestRenew: the values change, in the same number of characters, and nothing
// else does.
func TestRenew(t *testing.T) {
	const mod = "2fb1f58c-2421-4dca-a3c7-027129786a3f"
	separate := func(text string) files { return files{"disk.vmdk": []byte(text), "flat.vmdk": stamp(0, 8192)} }
	lines := "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\n%s\nRW 16 FLAT \"flat.vmdk\" 0\nddb.uuid.image=\"" + mod + "\"\n%s\n"
	embedded := small()
	embedded.desc = append(embedded.desc, "ddb.uuid.modification=\""+mod+"\"\n"...)
	for _, c := range []struct {
		name string
		fs   files
		old  []string // values that change, in the order of the text
	}{
		{"embedded", files{"disk.vmdk": embedded.bytes()}, []string{"CID=7f51f87", "modification=\"" + mod}},
		{"7 digits", separate(fmt.Sprintf(lines, "CID=7f51f87", "")), []string{"CID=7f51f87"}},
		{"one digit", separate(fmt.Sprintf(lines, "CID=f", "")), []string{"\nCID=f"}},
		{"many digits", separate(fmt.Sprintf(lines, "CID=000000007f51f87a", "")), []string{"CID=000000007f51f87a"}},
		{"blanks and quotes", separate(fmt.Sprintf(lines, " \tcid = \t\"7F51F87A\" ", " ddb.uuid.Modification = "+mod)),
			[]string{"cid = \t\"7F51F87A", "Modification = " + mod}},
		{"BOM and CRLF", separate("\xef\xbb\xbf" + strings.ReplaceAll(fmt.Sprintf(lines, "CID=7f51f87a", "ddb.uuid.modification=\""+mod+"\""), "\n", "\r\n")),
			[]string{"CID=7f51f87a", "modification=\"" + mod}},
		{"behind a NUL", separate(fmt.Sprintf(lines, "", "") + "\x00CID=7f51f87a\n"), nil},
		{"in a comment", separate(fmt.Sprintf(lines, "#CID=7f51f87a\nddb.comment=\"CID=7f51f87a\"", "")), nil},
		{"empty", separate(fmt.Sprintf(lines, "CID=", "ddb.uuid.modification=\"\"")), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := renewed(t, c.fs)
			for _, old := range c.old {
				key, value := old[:strings.LastIndexAny(old, "= \"")+1], old[strings.LastIndexAny(old, "= \"")+1:]
				at := strings.Index(before, old) + len(key)
				if len(before) != len(after) || before[at:at+len(value)] == after[at:at+len(value)] {
					t.Fatalf("%s did not change in place", key)
				}
				before = before[:at] + after[at:at+len(value)] + before[at+len(value):]
			}
			if before != after {
				t.Errorf("more than the values changed: %q", after)
			}
		})
	}
}

// TestRenewedIdentity: what is written is an identity, and another one each time.
func TestRenewedIdentity(t *testing.T) {
	h := small()
	h.desc = append(h.desc, "ddb.uuid.modification=\"00000000-0000-0000-0000-000000000000\"\n"...)
	fsys := files{"disk.vmdk": h.bytes()}.mem()
	seen := map[uint32]bool{}
	mods := map[uuid.UUID]bool{}
	for range 20 {
		w, err := openFor(fsys, "disk.vmdk")
		if err != nil {
			t.Fatal(err)
		}
		i := w.Info()
		if !i.HasCID || i.CID > 0xFFFFFFF || seen[i.CID] || mods[i.ModUUID] {
			t.Fatalf("%+v", i.Identity)
		}
		seen[i.CID], mods[i.ModUUID] = true, true
		if err := errors.Join(w.Begin(false), w.Begin(true), w.Begin(true), w.Finish(), w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, digits := range []int{1, 2, 7, 8, 12} {
		if s, err := newCID(digits, 5); err != nil || len(s) != digits {
			t.Errorf("%q, %v", s, err)
		}
	}
}

// TestMend: the redundant set of a file that was not closed is made equal before
// it is used; that of a closed one is left alone.
func TestMend(t *testing.T) {
	const rgt = 22 * 512
	unclean := func(changes ...change) []byte {
		b := small().bytes()
		b[uncleanAt] = 1
		for _, c := range changes {
			b = c(b)
		}
		return b
	}
	for _, c := range []struct {
		name string
		file []byte
	}{
		{"equal", unclean()},
		{"an entry is missing", unclean(put32(rgt, 0))},
		{"an entry is another", unclean(put32(rgt+8, 777))},
		{"only the redundant one", unclean(put32(rgt+8, 128), put32(smallGT, 0), put32(smallGT+12, 0))},
		{"only the redundant directory", unclean(put32(smallGD, 0))},
		{"no redundant table", unclean(put32(smallRGD, 0))},
		{"out of use", unclean(put32(flagsAt, flagNewlines|flagZeroed), put32(rgt+8, 777))},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := files{"disk.vmdk": c.file}.mem()
			before := reads(t, fsys, "disk.vmdk")
			w, err := openFor(fsys, "disk.vmdk")
			m := begin(t, w, err)
			mended := fsys.Bytes("/vm/disk.vmdk")
			if mended[uncleanAt] != 1 {
				t.Error("not marked as open")
			}
			checkSets(t, mended)
			if mended[flagsAt]&flagSpare != 0 {
				t.Error("the redundant set is in use")
			}
			m.put(8192, stamp(77, 4096))
			m.finish()
			checkClosed(t, fsys.Bytes("/vm/disk.vmdk"))
			after := reads(t, fsys, "disk.vmdk")
			if !bytes.Equal(after, m.flat) || !bytes.Equal(after[:8192], before[:8192]) {
				t.Error("the content is another")
			}
		})
	}
	closed := put32(rgt+8, 777)(small().bytes())
	before, after := renewed(t, files{"disk.vmdk": closed})
	if before[600:] != after[600:] && !strings.Contains(before[600:1200], "CID") {
		t.Error("a closed file was mended")
	}
}

// TestFaults: whatever operation fails once, the same changes can be published
// afterwards.
func TestFaults(t *testing.T) {
	image := grown(rand.New(rand.NewPCG(7, 8)))
	for n := 1; ; n++ {
		fsys := crashfs.New()
		fsys.Put("/vm/disk.vmdk", image)
		w, err := openFor(fsys, "disk.vmdk")
		m := begin(t, w, err)
		for _, off := range []int64{0, 4096, 600 * 4096, 1100 * 4096, 1101 * 4096} {
			m.put(off, stamp(int(off/512)+1, 4096))
		}
		m.make(1560*4096, vdcore.Free)
		m.make(1100*4096, vdcore.Zero)
		fsys.CutAt(fsys.Ops() + n)
		err = m.commit()
		fsys.CutAt(0)
		if err == nil {
			return
		}
		if !errors.Is(err, crashfs.ErrCut) {
			t.Fatal(err)
		}
		m.finish()
		checkClosed(t, fsys.Bytes("/vm/disk.vmdk"))
		if got := reads(t, fsys, "disk.vmdk"); !bytes.Equal(got, m.flat) {
			t.Fatalf("after a fault at operation %d the image shows something else", n)
		}
	}
}

// TestPowerCut: wherever the power goes, every unit is what it was before the commit
// or what it was to become, and the image can be written on.
func TestPowerCut(t *testing.T) {
	vdtest.Loop(t)
	r := rand.New(rand.NewPCG(7, 9))
	image := grown(r)
	for n := 1; ; n++ {
		fsys := crashfs.New()
		fsys.Put("/vm/disk.vmdk", image)
		before, after, done := cutSession(t, fsys, n)
		if done {
			return
		}
		for range 3 {
			left := fsys.Survive(r)
			if b := left.Bytes("/vm/disk.vmdk"); b[flagsAt]&flagSpare != 0 {
				checkSets(t, b) // VirtualBox would compare them
			}
			w, err := openFor(left, "disk.vmdk")
			if err != nil {
				t.Fatalf("cut at %d: %v\n%s", n, err, fsys.Trace(12))
			}
			m := begin(t, w, err)
			for off := int64(0); off < int64(len(m.flat)); off += 4096 {
				u := m.Unit(off)
				if got := m.flat[u.Off:u.End()]; !bytes.Equal(got, before[u.Off:u.End()]) && !bytes.Equal(got, after[u.Off:u.End()]) {
					t.Fatalf("cut at %d: the unit at %d is neither old nor new\n%s", n, off, fsys.Trace(12))
				}
			}
			m.put(1200*4096, stamp(1, 4096))
			m.put(2*4096, stamp(2, 4096))
			m.finish()
			checkClosed(t, left.Bytes("/vm/disk.vmdk"))
			if got := reads(t, left, "disk.vmdk"); !bytes.Equal(got, m.flat) {
				t.Fatalf("cut at %d: written on, the image shows something else", n)
			}
		}
	}
}

// cutSession makes two commits, the power goes at the n-th operation of it. The
// content was before, and was to be after; done means that it was closed before.
func cutSession(t *testing.T, fsys *crashfs.FS, n int) (before, after []byte, done bool) {
	w, err := openFor(fsys, "disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	m := &mini{writer: w, t: quiet{t}, flat: content(t, w)}
	before = bytes.Clone(m.flat)
	empty, held := grainOf(t, w, vdcore.Free), grainOf(t, w, vdcore.Data)
	fsys.CutAt(n)
	after = before
	err = errors.Join(func() error {
		if err := w.Begin(true); err != nil {
			return err
		}
		for _, step := range []func(){
			func() { m.put(empty, stamp(1e6, 4096)) }, func() { m.put(600*4096, stamp(1e6+1, 4096)) },
			func() { m.make(held, vdcore.Zero) }, func() { m.make(1540*4096, vdcore.Free) },
			func() { m.put(1100*4096, stamp(1e6+2, 4096)) },
		} {
			if step(); fsys.Cut() {
				return crashfs.ErrCut
			}
		}
		after = bytes.Clone(m.flat)
		if err := m.commit(); err != nil {
			return err
		}
		before = after
		m.put(held, stamp(1e6+3, 4096)) // into places that were given back
		m.put(1101*4096, stamp(1e6+4, 4096))
		if fsys.Cut() {
			return crashfs.ErrCut
		}
		after = bytes.Clone(m.flat)
		if err := m.commit(); err != nil {
			return err
		}
		before = after
		return w.Finish()
	}())
	w.Close()
	return before, after, err == nil
}

// grainOf finds the first grain of a kind.
func grainOf(t *testing.T, w *writer, kind vdcore.Kind) int64 {
	list, err := w.Map(nil, 0, w.info.Capacity)
	i := slices.IndexFunc(list, func(e vdcore.Extent) bool { return e.Kind == kind })
	if err != nil || i < 0 {
		t.Fatalf("no grain is %v: %v", kind, err)
	}
	return list[i].Off
}

// quiet lets writes into files fail.
type quiet struct{ testing.TB }

func (quiet) Fatal(args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok && errors.Is(err, crashfs.ErrCut) {
			return
		}
	}
	panic(fmt.Sprint(args...))
}

// TestAllocator: places are joined, the lowest is used first, and what is free at
// the end is cut off.
func TestAllocator(t *testing.T) {
	const grain = 4096
	a := newAllocator(grain)
	a.end = 100*grain + 512
	var got []int64
	for range 5 {
		pos, err := a.reserve()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, pos/grain)
	}
	if !slices.Equal(got, []int64{101, 102, 103, 104, 105}) {
		t.Fatalf("places %v", got)
	}
	for _, p := range []int64{103, 105, 101, 40, 104} {
		a.release(p * grain)
	}
	if want := []area{{101 * grain, 102 * grain}, {40 * grain, 41 * grain}}; !slices.Equal(a.free, want) || a.end != 103*grain {
		t.Fatalf("free %v, end %d", a.free, a.end)
	}
	for _, want := range []int64{40, 101, 103} {
		if pos, err := a.reserve(); err != nil || pos != want*grain {
			t.Fatalf("place %d, %v; want %d", pos/grain, err, want)
		}
	}
	a.end = math.MaxUint32 * sector
	if pos, err := a.reserve(); !errors.Is(err, syscall.ENOSPC) || a.end != math.MaxUint32*sector {
		t.Errorf("place %d, %v; end %d", pos, err, a.end)
	}
}

// TestCells compares with every pair of grains.
func TestCells(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for _, grain := range []int64{4096, 32 << 10, 64 << 10, 1 << 20} {
		c := newCells(grain, 1<<30)
		var list []int64
		for range 300 {
			pos := r.Int64N(1 << 20 * sector / 4096)
			pos = pos * grain / 8 / sector * sector
			if pos >= 1<<30 {
				continue
			}
			want := slices.ContainsFunc(list, func(p int64) bool { return p < pos+grain && pos < p+grain })
			clash, room := c.note(pos)
			if clash != want || !room {
				t.Fatalf("grain %d: at %d clash %v, room %v; want %v", grain, pos, clash, room, want)
			}
			if !clash {
				list = append(list, pos)
			}
		}
	}
	full := newCells(4096, maxPlace)
	full.left = 1
	full.note(4096)
	if _, room := full.note(1 << 40); room {
		t.Error("more pages than there may be")
	}
}

// TestUnprepared: a table that is not there is no place to write to.
func TestUnprepared(t *testing.T) {
	b := put32(smallRGD, 0)(put32(smallGD, 0)(small().bytes()))
	w, err := openFor(files{"disk.vmdk": b}.mem(), "disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	change := func(kind vdcore.Kind) []vdcore.Change {
		return []vdcore.Change{{Unit: w.Unit(0), Kind: kind, Place: vdcore.Place{Pos: 1 << 20}}}
	}
	if err := w.Publish(change(vdcore.Data)); !errors.Is(err, vdcore.ErrCorrupt) {
		t.Errorf("data: %v", err)
	}
	if err := errors.Join(w.Prepare(change(vdcore.Free)), w.Publish(change(vdcore.Free))); err != nil {
		t.Errorf("free: %v", err)
	}
	if err := errors.Join(w.Prepare(change(vdcore.Zero)), w.Publish(change(vdcore.Zero))); err != nil {
		t.Errorf("zero: %v", err)
	}
	if got, err := w.Map(nil, 0, 31*512); err != nil || got[0].Kind != vdcore.Zero || got[0].Len != 4096 {
		t.Errorf("map %v, %v", got, err)
	}
	if _, err := w.Reserve(vdcore.Unit{}); err != nil {
		t.Error(err)
	}
	if err := w.Publish(change(vdcore.Lost)); !errors.Is(err, vdcore.ErrUnsupported) {
		t.Errorf("lost: %v", err)
	}
}
