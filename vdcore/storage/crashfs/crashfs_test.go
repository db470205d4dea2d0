package crashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"vdfs/vdcore/storage"
)

// fill is n sectors of one byte.
func fill(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n*SectorSize) }

// show writes a file as one letter a sector, "." for zeros, "-" for no file.
func show(f *FS, path string) string {
	b := f.Bytes(path)
	if b == nil {
		return "-"
	}
	var s strings.Builder
	for len(b) > 0 {
		part := b[:min(SectorSize, len(b))]
		for _, c := range part {
			if c != part[0] {
				return fmt.Sprintf("torn sector after %q", s.String())
			}
		}
		if b = b[len(part):]; part[0] == 0 {
			s.WriteByte('.')
		} else {
			s.WriteByte(part[0])
		}
	}
	return s.String()
}

// states collects what can survive, in every mode, many times.
func states(f *FS, path string) map[string]bool {
	seen := map[string]bool{}
	for _, m := range Modes() {
		for seed := range uint64(300) {
			seen[show(f.SurviveAs(m, rand.New(rand.NewPCG(seed, 1))), path)] = true
		}
	}
	return seen
}

func wantStates(t *testing.T, f *FS, path string, want ...string) {
	t.Helper()
	got := states(f, path)
	for _, w := range want {
		if !got[w] {
			t.Errorf("%q never survives", w)
		}
		delete(got, w)
	}
	for g := range got {
		t.Errorf("%q survives", g)
	}
}

func open(t *testing.T, f storage.FS, path string, m storage.Mode) storage.File {
	t.Helper()
	x, err := f.Open(path, m)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, x storage.File, c byte, at, n int) {
	t.Helper()
	if k, err := x.WriteAt(fill(c, n), int64(at)*SectorSize); err != nil || k != n*SectorSize {
		t.Fatal(k, err)
	}
}

func TestSectorsSurviveOneByOne(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 2))
	x := open(t, f, "/a", storage.ReadWrite)
	write(t, x, 'b', 0, 2)
	write(t, x, 'c', 1, 1)
	if show(f, "/a") != "bc" {
		t.Error(show(f, "/a"))
	}
	wantStates(t, f, "/a", "aa", "ab", "ac", "ba", "bb", "bc")
	must(t, x.Sync())
	wantStates(t, f, "/a", "bc")
	must(t, x.Punch(SectorSize, SectorSize))
	wantStates(t, f, "/a", "bc", "b.")
}

func TestGrowthReadsAsZeros(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 1))
	x := open(t, f, "/a", storage.ReadWrite)
	write(t, x, 'b', 2, 1)
	wantStates(t, f, "/a", "a", "a..", "a.b")
	must(t, x.DataSync())
	must(t, x.Truncate(4*SectorSize))
	wantStates(t, f, "/a", "a.b", "a.b.")
}

// What was cut off does not come back in a file that grew again.
func TestCutOff(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 3))
	x := open(t, f, "/a", storage.ReadWrite)
	must(t, x.Truncate(SectorSize))
	must(t, x.Truncate(3*SectorSize))
	got := states(f, "/a")
	if !got["a"] || !got["a.."] || !got["aaa"] {
		t.Error(got)
	}
	must(t, x.Sync())
	wantStates(t, f, "/a", "a..")
	must(t, x.Truncate(SectorSize+100))
	if b := f.Bytes("/a"); len(b) != SectorSize+100 {
		t.Error(len(b))
	}
}

func TestPartOfSector(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 2)[:700])
	x := open(t, f, "/a", storage.ReadWrite)
	if _, err := x.WriteAt([]byte("xyz"), 510); err != nil {
		t.Fatal(err)
	}
	want := fill('a', 2)[:700]
	copy(want[510:], "xyz")
	if !bytes.Equal(f.Bytes("/a"), want) {
		t.Error("overwritten wrongly")
	}
	must(t, x.Punch(600, 1000))
	clear(want[600:])
	if got := f.Bytes("/a"); !bytes.Equal(got, want) {
		t.Error("punched wrongly")
	}
	must(t, x.Truncate(610))
	must(t, x.Truncate(700))
	if got := f.Bytes("/a"); !bytes.Equal(got, want) {
		t.Error("cut and grown wrongly")
	}
	for seed := range uint64(50) { // a survivor never has bytes behind its end
		s := f.Survive(rand.New(rand.NewPCG(seed, 2)))
		y := open(t, s, "/a", storage.ReadWrite)
		n := len(s.Bytes("/a"))
		must(t, y.Truncate(2000))
		if tail := s.Bytes("/a")[n:]; !bytes.Equal(tail, make([]byte, len(tail))) {
			t.Fatal("bytes behind the end")
		}
	}
}

func TestCut(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 2))
	x := open(t, f, "/a", storage.ReadWrite)
	f.CutAt(2)
	write(t, x, 'b', 0, 1)
	if _, err := x.WriteAt(fill('c', 2), 0); !errors.Is(err, ErrCut) {
		t.Error(err)
	}
	for _, err := range []error{x.Sync(), x.DataSync(), x.Truncate(0), x.Punch(0, 1), x.Allocate(0, 1), f.Remove("/a"), f.SyncDir("/")} {
		if !errors.Is(err, ErrCut) {
			t.Error(err)
		}
	}
	if _, err := f.Open("/b", storage.Create); !errors.Is(err, ErrCut) {
		t.Error(err)
	}
	if !f.Cut() || f.Ops() != 2 || len(f.Log()) != 2 || !strings.Contains(f.Trace(5), "2: write /a [0,+1024) (cut here)") {
		t.Error(f.Cut(), f.Ops(), f.Trace(5))
	}
	wantStates(t, f, "/a", "aa", "ba", "ca", "ac", "bc", "cc")
	s := f.Survive(nil)
	y := open(t, s, "/a", storage.ReadWrite)
	write(t, y, 'd', 0, 1)
	must(t, y.Sync())
	wantStates(t, s, "/a", "da")
}

// A sync at which the power goes may have done all of its work, or part.
func TestCutSync(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 2))
	x := open(t, f, "/a", storage.ReadWrite)
	write(t, x, 'b', 0, 2)
	f.CutAt(2)
	if err := x.Sync(); !errors.Is(err, ErrCut) {
		t.Error(err)
	}
	wantStates(t, f, "/a", "aa", "ab", "ba", "bb")
}

func TestNames(t *testing.T) {
	f := New()
	x := open(t, f, "/d/a", storage.Create)
	write(t, x, 'a', 0, 1)
	must(t, x.Sync())
	wantStates(t, f, "/d/a", "-", "a")
	if _, err := f.Open("/d/a", storage.Create); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	must(t, f.SyncDir("/d"))
	wantStates(t, f, "/d/a", "a")
	must(t, f.Remove("/d/a"))
	wantStates(t, f, "/d/a", "-")
	y := open(t, f, "/d/a", storage.Create)
	must(t, f.SyncDir("/d"))
	write(t, y, 'b', 0, 1)
	f.CutAt(f.Ops() + 1)
	if err := f.Remove("/d/a"); !errors.Is(err, ErrCut) {
		t.Error(err)
	}
	wantStates(t, f, "/d/a", "-", "", ".", "b")
}

func TestLie(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 4))
	x := open(t, f, "/a", storage.ReadWrite)
	var asked []int64
	f.Lie(func(path string, pending []int64) bool { asked = pending; return path == "/a" })
	write(t, x, 'b', 2, 2)
	write(t, x, 'c', 0, 3)
	must(t, x.Sync())
	if !slices.Equal(asked, []int64{0, 1, 2, 3}) {
		t.Error(asked)
	}
	if got := states(f, "/a"); !got["aaaa"] || !got["cccb"] {
		t.Error(got)
	}
	f.Lie(nil)
	must(t, x.Sync())
	wantStates(t, f, "/a", "cccb")
}

// After a failed sync a good one does not bring back what the first dropped, unless
// it was written again.
func TestFailedSync(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 3))
	x := open(t, f, "/a", storage.ReadWrite)
	write(t, x, 'b', 0, 3)
	x.(*File).SyncFailed()
	write(t, x, 'c', 1, 1)
	must(t, x.Sync())
	if show(f, "/a") != "bcb" {
		t.Error(show(f, "/a"))
	}
	wantStates(t, f, "/a", "aca", "acb", "bca", "bcb")
	write(t, x, 'd', 0, 3)
	must(t, x.Sync())
	wantStates(t, f, "/a", "ddd")
}

func TestFileSystem(t *testing.T) {
	f := New("/search")
	f.Put("/vm/a", nil)
	f.Put("/vm/b", fill('b', 1))
	f.Put("/search/c", nil)
	below := f.Below("/vm")
	if _, err := below.Open("/other", storage.ReadOnly); !errors.Is(err, storage.ErrOutside) {
		t.Error(err)
	}
	open(t, below, "/search/c", storage.ReadOnly).Close()
	if names, err := below.List("/vm"); err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Error(names, err)
	}
	if _, err := f.Open("/vm/x", storage.ReadWrite); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	x := open(t, f, "/vm/b", storage.ReadOnly)
	if _, err := x.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EBADF) {
		t.Error(err)
	}
	if f.Ops() != 0 || f.OpenFiles() != 1 {
		t.Error(f.Ops(), f.OpenFiles())
	}
	x.Close()
	if _, err := x.Stat(); !errors.Is(err, fs.ErrClosed) || f.OpenFiles() != 0 {
		t.Error(err, f.OpenFiles())
	}
}

func TestHoles(t *testing.T) {
	f := New()
	x := open(t, f, "/a", storage.Create)
	must(t, x.Truncate(8*SectorSize))
	write(t, x, 'a', 2, 2)
	for _, c := range []struct{ off, data, hole int64 }{{0, 1024, 0}, {1100, 1100, 2048}, {2048, 4096, 2048}} {
		data, err1 := x.NextData(c.off)
		hole, err2 := x.NextHole(c.off)
		if data != c.data || hole != c.hole || err1 != nil || err2 != nil {
			t.Error(c, data, hole, err1, err2)
		}
	}
	if st, err := x.Stat(); err != nil || st.Allocated != 2*SectorSize || st.Size != 8*SectorSize {
		t.Error(st, err)
	}
}

// A clone and its original do not see each other's writes.
func TestClone(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 3))
	x := open(t, f, "/a", storage.ReadWrite)
	write(t, x, 'b', 0, 1)
	g := f.Clone()
	write(t, x, 'c', 1, 1)
	must(t, x.Truncate(2*SectorSize))
	y := open(t, g, "/a", storage.ReadWrite)
	write(t, y, 'd', 2, 1)
	if show(f, "/a") != "bc" || show(g, "/a") != "bad" {
		t.Error(show(f, "/a"), show(g, "/a"))
	}
	wantStates(t, g, "/a", "baa", "bad")
}

// TestModel compares with a plain slice, reader and everything surviving alike.
func TestModel(t *testing.T) {
	m := &model{r: rand.New(rand.NewPCG(7, 7)), f: New()}
	m.x = open(t, m.f, "/a", storage.Create)
	must(t, m.f.SyncDir("/"))
	for range 3000 {
		m.step(t)
		if m.r.IntN(4) == 0 {
			m.f.Survive(m.r)
			m.f, m.dropped = m.f.Clone(), false
			m.x = open(t, m.f, "/a", storage.ReadWrite)
		}
		if !bytes.Equal(m.f.Bytes("/a"), m.want) || !bytes.Equal(m.f.Clone().Bytes("/a"), m.want) {
			t.Fatal("content differs from the model")
		}
	}
}

type model struct {
	r       *rand.Rand
	f       *FS
	x       storage.File
	want    []byte
	dropped bool // by a failed sync, until a clone
}

func (m *model) grow(n int) {
	m.want = append(m.want, make([]byte, max(0, n-len(m.want)))...)
}

func (m *model) step(t *testing.T) {
	t.Helper()
	off, n := m.r.IntN(20000), 1+m.r.IntN(3000)
	switch m.r.IntN(8) {
	case 0:
		must(t, m.x.Truncate(int64(off)))
		m.grow(off)
		m.want = m.want[:off]
	case 1:
		must(t, m.x.Punch(int64(off), int64(n)))
		clear(m.want[min(off, len(m.want)):min(off+n, len(m.want))])
	case 2:
		must(t, m.x.Sync())
		if got := m.f.Survive(m.r).Bytes("/a"); !m.dropped && !bytes.Equal(got, m.want) {
			t.Fatal("not durable after a sync")
		}
	case 3:
		m.x.(*File).SyncFailed()
		m.dropped = true
	default:
		p := bytes.Repeat([]byte{byte(1 + m.r.IntN(250))}, n)
		if _, err := m.x.WriteAt(p, int64(off)); err != nil {
			t.Fatal(err)
		}
		m.grow(off + n)
		copy(m.want[off:], p)
	}
}

// TestSeeds: one seed, one state.
func TestSeeds(t *testing.T) {
	f := New()
	for _, path := range []string{"/a", "/b", "/c"} {
		f.Put(path, fill('a', 20))
		x := open(t, f, path, storage.ReadWrite)
		write(t, x, 'b', 3, 10)
		write(t, x, 'c', 5, 30)
	}
	for seed := range uint64(100) {
		var got []string
		for range 2 {
			s := f.Survive(rand.New(rand.NewPCG(seed, 9)))
			got = append(got, show(s, "/a")+show(s, "/b")+show(s, "/c"))
		}
		if got[0] != got[1] {
			t.Fatalf("seed %d: %q and %q", seed, got[0], got[1])
		}
	}
}

func TestParallel(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 64))
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			x, err := f.Open("/a", storage.ReadWrite)
			if err != nil {
				t.Error(err)
				return
			}
			r := rand.New(rand.NewPCG(uint64(k), 3))
			for range 200 {
				off := int64(r.IntN(64)) * SectorSize
				x.ReadAt(make([]byte, 3000), off)
				x.WriteAt(fill(byte('a'+k), 2), off)
				if r.IntN(10) == 0 {
					x.Sync()
					f.Survive(r)
				}
			}
			x.Close()
		})
	}
	wg.Wait()
	if f.OpenFiles() != 0 || strings.Contains(show(f, "/a"), "torn") {
		t.Error(f.OpenFiles(), show(f, "/a"))
	}
}

func BenchmarkCycle(b *testing.B) {
	base := New()
	base.Put("/a", fill('a', 8192)) // 4 MiB
	p := fill('b', 256)
	r := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		f := base.Clone()
		x, _ := f.Open("/a", storage.ReadWrite)
		for i := range int64(30) {
			x.WriteAt(p, i*100*SectorSize)
			if i%10 == 9 {
				x.Sync()
			}
		}
		x.WriteAt(p, 0)
		f.Survive(r)
	}
}

// TestRename: a file has its old name or its new one, and what it replaces is there
// until then.
func TestRename(t *testing.T) {
	f := New()
	f.Put("/a", fill('a', 1))
	f.Put("/b", fill('b', 1))
	if err := f.Rename("/a", "/b"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a file: %v", err)
	}
	if err := f.Replace("/a", "/c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("instead of no file: %v", err)
	}
	f.CutAt(1)
	if err := f.Replace("/a", "/b"); !errors.Is(err, ErrCut) {
		t.Fatal(err)
	}
	for _, m := range Modes() {
		for seed := range uint64(50) {
			s := f.SurviveAs(m, rand.New(rand.NewPCG(seed, 1)))
			if got := show(s, "/a") + show(s, "/b"); got != "ab" && got != "-a" {
				t.Errorf("%v: %q survives", m, got)
			}
		}
	}
	f.CutAt(0)
	must(t, f.Rename("/b", "/c"))
	must(t, f.Link("/c", "/d"))
	wantStates(t, f, "/b", "-")
	wantStates(t, f, "/c", "a")
	wantStates(t, f, "/d", "a")
}
