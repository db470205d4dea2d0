package integration

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKill kills the daemon in the midst of writing, or of closing the images, and
// looks at what is left: what was synced is there, everything else is old or new,
// nothing is damaged, and writing goes on. VDFS_KILLS is how often; VDFS_FSX_SEED
// the first seed. VDFS_KILL_DIR is where images lie; VirtualBox looks at those below
// /tmp/vbx, too.
func TestKill(t *testing.T) {
	needFUSE(t)
	needTool(t, "qemu-img")
	needTool(t, "qemu-io")
	kills, err := strconv.Atoi(cmp.Or(os.Getenv("VDFS_KILLS"), "3"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := []diskKind{{"vdi", 1}, {"vmdk", 3}, {"raw", 1}, {"vdi", 3}, {"vmdk", 1}, {"split", 1}}
	for i, kind := range kinds {
		rest := (kills + len(kinds) - 1 - i) / len(kinds)
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			for seed := fsxSeed(t); rest > 0; seed++ {
				n := min(rest, killsPerImage)
				rest -= n
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) { newVictim(t, kind, seed).run(n) }) {
					return
				}
			}
		})
	}
}

const (
	killsPerImage = 5
	killAfter     = 9 // the daemon lives for up to 2 to the power of this many operations
)

// victim is an image whose daemon is killed. Its content is what was synced.
type victim struct {
	testing.TB
	*rand.Rand
	*rawDisk
	journal
	later [][]rewrite // of each page, what it was changed to since, the oldest first

	daemon  int          // a pidfd
	left    atomic.Int64 // operations until it is killed
	killing atomic.Bool
	torn    int // pages of which some sectors were old and some new
	leaks   []string
}

// rewrite is one new content of a page: that of an operation, or zeros.
type rewrite struct {
	seq  uint32
	zero bool
}

func newVictim(t testing.TB, kind diskKind, seed uint64) *victim {
	r := rand.New(rand.NewPCG(seed, uint64(kind.depth)))
	v := &victim{TB: t, Rand: r, rawDisk: newRawDisk(t, r, keptDir(t, "VDFS_KILL_DIR"), kind)}
	for range kind.depth {
		v.note(-1, "made", 0, v.size())
	}
	v.later = make([][]rewrite, (v.size()+fsxPage-1)/fsxPage)
	t.Cleanup(func() {
		if t.Failed() {
			v.keep(filepath.Dir(v.path), v.content)
		}
	})
	return v
}

func (v *victim) run(kills int) {
	same := unchanged(v, v.lower...)
	for n := range kills {
		v.killOnce(v.IntN(4) == 0)
		v.examine()
		if v.IntN(2) == 0 || n == kills-1 { // otherwise the next one meets what this one left
			v.goOn()
		}
		same()
		if v.Failed() {
			v.FailNow()
		}
	}
	v.Logf("%d operations, %d torn pages, leaks %q", len(v.ops), v.torn, v.leaks)
}

// killOnce has workers write, and kills the daemon under them, or when it is about
// to close the images.
func (v *victim) killOnce(closing bool) {
	mnt := mount(v, "--rw", v.path)
	fd, err := unix.PidfdOpen(daemon(v, mnt), 0)
	if err != nil {
		v.Fatal(err)
	}
	defer unix.Close(fd)
	v.daemon = fd
	v.killing.Store(false)
	v.left.Store(1 + v.Int64N(1<<v.IntN(killAfter+1)))
	v.work(filepath.Join(mnt, stem(v.path), "disk.raw"), closing)
	if closing {
		v.killClosing(mnt)
	}
	for err = unix.EINTR; err == unix.EINTR; { // until it is dead
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
	}
	if !mounted(v, mnt) {
		return
	}
	if r := vdfs(v, "umount", mnt); r.code != 7 || mounted(v, mnt) {
		v.Fatalf("umount after the daemon's death: exit %d\n%s", r.code, r.stderr)
	}
}

// work returns when every worker has met the daemon's death, or, with stop, when
// that would be due.
func (v *victim) work(path string, stop bool) {
	errs := make(chan error, fsxWorkers)
	for id, own := range v.stripes(v.Rand, fsxWorkers) {
		w := &killWorker{victim: v, r: rand.New(rand.NewPCG(v.Uint64(), 0)), id: id, own: own, stop: stop}
		go func() { errs <- w.run(path) }()
	}
	for range fsxWorkers {
		if err := <-errs; err != nil && !v.killing.Load() {
			v.Errorf("before anything was killed: %v", err)
		}
	}
	if v.Failed() {
		v.FailNow()
	}
}

// kill kills the daemon a moment from now.
func (v *victim) kill(moment int) {
	for range moment {
		runtime.Gosched()
	}
	v.killing.Store(true)
	if err := unix.PidfdSendSignal(v.daemon, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		v.Error(err)
	}
}

// killClosing unmounts, and kills the daemon between that and its end. All was
// synced before.
func (v *victim) killClosing(mnt string) {
	ended := make(chan error, 1)
	umount := func() { ended <- exec.Command(vdfsBinary, "umount", mnt).Run() }
	go umount()
	for tries := 0; mounted(v, mnt); {
		select {
		case err := <-ended:
			if tries++; tries == 20 {
				v.Fatalf("umount: %v", err)
			}
			go umount() // it was in use, see endMount
		default:
			runtime.Gosched()
		}
	}
	v.kill(v.IntN(1 << v.IntN(14)))
	<-ended // without an error if the daemon was faster
	v.settle(0, v.size())
}

// settle takes what was written to a range for its content.
func (v *victim) settle(from, to int64) {
	for off := from; off < to; off += fsxPage {
		page := v.later[off/fsxPage]
		if len(page) > 0 {
			page[len(page)-1].fill(v.content[off:min(off+fsxPage, v.size())], off)
			v.later[off/fsxPage] = page[:0]
		}
	}
}

func (c rewrite) fill(p []byte, off int64) {
	if c.zero {
		clear(p)
		return
	}
	fsxFill(p, off, c.seq)
}

// killWorker changes pages of its own.
type killWorker struct {
	*victim
	r    *rand.Rand
	id   int
	own  []stripe
	stop bool // when the time has come, instead of killing the daemon
}

func (w *killWorker) run(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	direct, err := os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer direct.Close()
	for {
		switch left := w.left.Add(-1); {
		case w.stop && left <= 0:
			return nil
		case left == 0:
			go w.kill(w.r.IntN(1 << w.r.IntN(12)))
		}
		if err := w.step(f, direct); err != nil {
			return err
		}
	}
}

// step is one operation on whole pages, or a sync of all so far.
func (w *killWorker) step(f, direct *os.File) error {
	s := w.own[w.r.IntN(len(w.own))]
	from := s.from + w.r.Int64N(max((s.to-s.from)/fsxPage, 1))*fsxPage
	to := min(from+fsxPage*(1+w.r.Int64N(1<<w.r.IntN(9))), s.to)
	switch k := w.r.IntN(30); {
	case k == 0 || from == to:
		if err := f.Sync(); err != nil {
			return err
		}
		for _, s := range w.own {
			w.settle(s.from, s.to)
		}
		return nil
	case k < 4:
		w.enter(from, to, rewrite{w.note(w.id, "punch", from, to-from), true})
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	case k < 16:
		f = direct
	}
	seq := w.note(w.id, "write", from, to-from)
	w.enter(from, to, rewrite{seq: seq})
	p := make([]byte, to-from)
	fsxFill(p, from, seq)
	_, err := f.WriteAt(p, from)
	return err
}

func (v *victim) enter(from, to int64, c rewrite) {
	for page := from / fsxPage; page*fsxPage < to; page++ {
		v.later[page] = append(v.later[page], c)
	}
}

// examine looks at the image as the killed daemon left it.
func (v *victim) examine() {
	v.leaks = append(v.leaks, v.check(v)...)
	out := filepath.Join(v.TempDir(), "vdfs-copy")
	must(v, "copy", v.path, out)
	got, err := os.ReadFile(out)
	if err != nil || len(got) != len(v.content) {
		v.Fatalf("%d bytes, want %d, %v", len(got), len(v.content), err)
	}
	for page := range v.later {
		v.judge(page, got)
		v.later[page] = v.later[page][:0]
	}
	v.content = got
	v.asOthers(v, got)
}

// judge compares a page, sector for sector, with everything it may hold.
func (v *victim) judge(page int, got []byte) {
	from := int64(page) * fsxPage
	to := min(from+fsxPage, v.size())
	if bytes.Equal(got[from:to], v.content[from:to]) {
		return
	}
	may := [][]byte{v.content[from:to]}
	for _, c := range v.later[page] {
		p := make([]byte, to-from)
		c.fill(p, from)
		may = append(may, p)
	}
	is := func(lo, hi int64) bool {
		return slices.ContainsFunc(may, func(p []byte) bool { return bytes.Equal(got[from+lo:from+hi], p[lo:hi]) })
	}
	if is(0, to-from) {
		return
	}
	v.torn++
	for lo := int64(0); lo < to-from; lo += 512 {
		if hi := min(lo+512, to-from); !is(lo, hi) {
			v.Errorf("after a kill, with %d changes since the last sync: %v", len(may)-1, v.differs("page", from, got[from:to], may[len(may)-1]))
			return
		}
	}
}

// goOn writes to the image again, and ends well.
func (v *victim) goOn() {
	mnt := mount(v, "--rw", v.path)
	v.killing.Store(false)
	v.left.Store(200)
	v.work(filepath.Join(mnt, stem(v.path), "disk.raw"), true)
	endMount(v, mnt)
	v.settle(0, v.size())
	v.settled(v, v.content)
}
