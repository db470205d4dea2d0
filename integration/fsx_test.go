package integration

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFsx changes disks at random through the kernel, in every way it has, and
// compares them with a flat model: while mounted, after each mount, and in the end
// with QEMU's view of the image. VDFS_FSX is how long to go on with each kind of
// image (a Go duration), VDFS_FSX_SEED the first seed; another one follows after
// each few mounts, with an image of its own. VDFS_FSX_DIR is where images lie, and
// stay when something is wrong.
func TestFsx(t *testing.T) {
	needFUSE(t)
	needTool(t, "qemu-img")
	needTool(t, "qemu-io")
	for _, c := range []diskKind{
		{"vdi", 1}, {"vdi", 2}, {"vdi", 5}, {"vmdk", 1}, {"vmdk", 2}, {"vmdk", 5}, {"split", 1}, {"flat", 1}, {"raw", 1},
	} {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			end := time.Now().Add(fsxTime(t))
			ops, rounds := 0, 0
			for seed := fsxSeed(t); ; seed++ {
				rounds++
				ok := t.Run(fmt.Sprint(seed), func(t *testing.T) { ops += newFsx(t, c, seed).run(end) })
				if !ok || !time.Now().Before(end) {
					break
				}
			}
			t.Logf("%d operations on %d images", ops, rounds)
		})
	}
}

func fsxTime(t *testing.T) time.Duration {
	d, err := time.ParseDuration(cmp.Or(os.Getenv("VDFS_FSX"), "1s"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func fsxSeed(t *testing.T) uint64 {
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("VDFS_FSX_SEED"), fmt.Sprint(time.Now().Unix())), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

const (
	fsxWorkers = 3
	fsxMounts  = 6   // writable mounts of one image, at most
	fsxOps     = 300 // operations of a worker in one, at most
	fsxPage    = 4096
)

// fsx is one image and its model.
type fsx struct {
	testing.TB
	*rand.Rand
	*rawDisk
	journal
	calm bool // nobody syncs, so that what is new stays so for long
}

func newFsx(t testing.TB, kind diskKind, seed uint64) *fsx {
	r := rand.New(rand.NewPCG(seed, uint64(kind.depth)))
	x := &fsx{TB: t, Rand: r, rawDisk: newRawDisk(t, r, keptDir(t, "VDFS_FSX_DIR"), kind)}
	for range kind.depth {
		x.note(-1, "made", 0, x.size())
	}
	t.Cleanup(func() {
		if t.Failed() {
			x.keep(filepath.Dir(x.path), x.content)
		}
	})
	return x
}

// run returns how many operations there were.
func (x *fsx) run(end time.Time) int {
	same := unchanged(x, x.lower...)
	for n := 0; n == 0 || n < fsxMounts && time.Now().Before(end); n++ {
		mnt := mount(x, "--rw", x.path)
		file := filepath.Join(mnt, stem(x.path), "disk.raw")
		x.calm = x.IntN(2) == 0
		x.work(file, end)
		x.equals(file, x.IntN(2)*syscall.O_DIRECT)
		endMount(x, mnt)
		if x.IntN(2) == 0 {
			mnt := mount(x, x.path)
			x.equals(filepath.Join(mnt, stem(x.path), "disk.raw"), 0)
			endMount(x, mnt)
		}
	}
	same()
	x.settled(x, x.content)
	return len(x.ops)
}

// endMount unmounts. A process that another test is about to start holds, up to its
// exec, what was open at that moment: then the mount is in use for that long.
func endMount(t testing.TB, mnt string) {
	t.Helper()
	for tries := 0; ; tries++ {
		if r := vdfs(t, "umount", mnt); r.code == 0 {
			return
		} else if r.code != 5 || tries == 20 {
			t.Fatalf("umount: exit %d\n%s", r.code, r.stderr)
		}
	}
}

// work has several workers change the mounted disk, each its own parts of it.
func (x *fsx) work(path string, end time.Time) {
	errs := make(chan error, fsxWorkers)
	for id, own := range x.stripes(x.Rand, fsxWorkers) {
		w := &fsxWorker{fsx: x, r: rand.New(rand.NewPCG(x.Uint64(), 0)), id: id, own: own}
		ops := 1 + x.IntN(fsxOps)
		go func() { errs <- w.run(path, ops, end) }()
	}
	for range fsxWorkers {
		if err := <-errs; err != nil {
			x.Error(err)
		}
	}
	if x.Failed() {
		x.FailNow()
	}
}

// equals compares a mounted disk with the model, read as a sparse copy reads it.
func (x *fsx) equals(path string, flags int) {
	x.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|flags, 0)
	if err != nil {
		x.Fatal(err)
	}
	defer f.Close()
	w := &fsxWorker{fsx: x, file: f, direct: f}
	if err := w.seekAll(0, x.size()); err != nil {
		x.Fatalf("%s: %v", path, err)
	}
	for off := int64(0); off < x.size(); off += 1 << 20 {
		if err := w.compare(f, off, min(1<<20, x.size()-off)); err != nil {
			x.Fatalf("%s, flags %o: %v", path, flags, err)
		}
	}
}

// stripe is the range [from, to) of a disk.
type stripe struct{ from, to int64 }

// stripes cuts the disk into pieces of whole pages, up to several blocks large, and
// deals them out.
func (d *rawDisk) stripes(r *rand.Rand, workers int) [][]stripe {
	list := make([][]stripe, workers)
	for off := int64(0); off < d.size(); {
		to := min(off+fsxPage*(1+r.Int64N(1<<r.IntN(12))), d.size())
		id := r.IntN(workers)
		list[id] = append(list[id], stripe{off, to})
		off = to
	}
	for id, own := range list {
		if len(own) == 0 { // hardly ever; it may only look then
			list[id] = []stripe{{0, 0}}
		}
	}
	return list
}

// fsxWorker changes its own stripes, and nobody else does. So it can compare while
// the others are at work.
type fsxWorker struct {
	*fsx
	r    *rand.Rand
	id   int
	own  []stripe
	file *os.File
	// other ways to write: O_DIRECT, which reads too, O_DSYNC, and O_WRONLY, which
	// goes past the page cache
	direct, dsync, past *os.File
}

func (w *fsxWorker) run(path string, ops int, end time.Time) error {
	for flags, f := range map[int]**os.File{
		os.O_RDWR: &w.file, os.O_RDWR | syscall.O_DIRECT: &w.direct, os.O_RDWR | syscall.O_DSYNC: &w.dsync, os.O_WRONLY: &w.past,
	} {
		var err error
		if *f, err = os.OpenFile(path, flags, 0); err != nil {
			return err
		}
		defer (*f).Close()
	}
	for n := 0; n < ops && (n < 10 || time.Now().Before(end)); n++ {
		if err := w.step(); err != nil {
			return fmt.Errorf("worker %d: %w", w.id, err)
		}
	}
	return nil
}

func (w *fsxWorker) step() error {
	s := w.own[w.r.IntN(len(w.own))]
	off, n := w.pick(s)
	if n == 0 {
		return w.seekAll(s.from, s.to)
	}
	switch k := w.r.IntN(100); {
	case k < 34:
		return w.write(off, n)
	case k < 42:
		return w.writeMapped(off, n)
	case k < 60:
		return w.read(off, n)
	case k < 64:
		return w.readMapped(off, n)
	case k < 77:
		return w.zero(off, n)
	case k < 79:
		return w.zero(s.from, s.to-s.from)
	case k < 82:
		return w.allocate(off, n)
	case k < 85 && !w.calm:
		w.note(w.id, "fsync", 0, 0)
		return w.file.Sync()
	case k < 91:
		return w.seekAll(s.from, s.to)
	case k < 95:
		return w.dropCache(off, n)
	case k < 98:
		return w.read(s.from, min(s.to-s.from, 1<<20))
	}
	return w.passEnd(s)
}

// pick finds a range in a stripe, often one that is aligned.
func (w *fsxWorker) pick(s stripe) (off, n int64) {
	if s.from == s.to {
		return 0, 0
	}
	align := []int64{1, 512, 4096, 64 << 10, 1 << 20}[w.r.IntN(5)]
	off = s.from + w.r.Int64N(s.to-s.from)
	off = max(off-off%align, s.from)
	n = 1 + w.r.Int64N(1<<w.r.IntN(21))
	return off, min((n+align-1)/align*align, s.to-off)
}

// change puts new bytes into the model and returns them.
func (w *fsxWorker) change(how string, off, n int64) []byte {
	p := w.content[off : off+n]
	switch k := w.r.IntN(20); {
	case k < 14:
		fsxFill(p, off, w.note(w.id, how, off, n))
	case k < 17:
		clear(p)
		w.note(w.id, how+" zeros", off, n)
	case k < 18:
		fsxFill(p, off, w.note(w.id, how+" half zeros", off, n))
		for at := int64(0); at < n; at += 2 * 8192 {
			clear(p[at:min(at+8192, n)])
		}
	default:
		w.note(w.id, how+" the same", off, n)
	}
	return p
}

func (w *fsxWorker) write(off, n int64) error {
	f, how := w.file, "write"
	switch w.r.IntN(12) {
	case 0, 1, 2:
		f, how = w.direct, "direct write"
	case 4, 5, 6:
		f, how = w.past, "write only"
	case 3:
		if !w.calm {
			f, how = w.dsync, "dsync write"
		}
	}
	_, err := f.WriteAt(w.change(how, off, n), off)
	return err
}

// mapped maps whole pages around a range, which never reach into others' stripes.
// use is called with the mapping and the place of the range in it.
func (w *fsxWorker) mapped(off, n int64, use func(m, p []byte) error) error {
	from := off &^ (fsxPage - 1)
	m, err := unix.Mmap(int(w.file.Fd()), from, int(off+n-from), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	return errors.Join(use(m, m[off-from:]), unix.Munmap(m))
}

func (w *fsxWorker) writeMapped(off, n int64) error {
	return w.mapped(off, n, func(m, p []byte) error {
		switch k := w.r.IntN(3); {
		case k == 0 && !w.calm:
			copy(p, w.change("map, msync", off, n))
			return unix.Msync(m, unix.MS_SYNC)
		case k == 1:
			copy(p, w.change("map, async", off, n))
			return unix.Msync(m, unix.MS_ASYNC)
		}
		copy(p, w.change("map", off, n)) // the pages stay dirty until somebody wants them
		if w.r.IntN(2) == 0 {
			return nil
		}
		return w.seekAll(off, off+n)
	})
}

func (w *fsxWorker) readMapped(off, n int64) error {
	return w.mapped(off, n, func(_, p []byte) error {
		if p = bytes.Clone(p); !bytes.Equal(p, w.content[off:off+n]) {
			return w.differs("mapped", off, p, w.content[off:off+n])
		}
		return nil
	})
}

func (w *fsxWorker) read(off, n int64) error {
	f, how := w.file, "read"
	switch w.r.IntN(4) {
	case 0:
		f, how = w.direct, "direct read"
	case 1:
		if err := w.dropCache(off, n); err != nil {
			return err
		}
	}
	w.note(w.id, how, off, n)
	return w.compare(f, off, n)
}

func (w *fsxWorker) compare(f *os.File, off, n int64) error {
	p := make([]byte, n)
	if _, err := f.ReadAt(p, off); err != nil {
		return fmt.Errorf("read %d at %d: %w", n, off, err)
	}
	if !bytes.Equal(p, w.content[off:off+n]) {
		again := make([]byte, n)
		_, err := w.direct.ReadAt(again, off)
		return fmt.Errorf("%w(read past the page cache: right %v, %v)", w.differs("read", off, p, w.content[off:off+n]), bytes.Equal(again, w.content[off:off+n]), err)
	}
	return nil
}

// zero punches or zeroes a range.
func (w *fsxWorker) zero(off, n int64) error {
	mode, how := uint32(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE), "punch"
	switch w.r.IntN(4) {
	case 0:
		mode, how = unix.FALLOC_FL_ZERO_RANGE, "zero range"
	case 1:
		mode, how = unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, "zero range, keep size"
	}
	clear(w.content[off : off+n])
	w.note(w.id, how, off, n)
	return w.fallocate(mode, off, n)
}

func (w *fsxWorker) allocate(off, n int64) error {
	w.note(w.id, "allocate", off, n)
	return w.fallocate(uint32(w.r.IntN(2))*unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (w *fsxWorker) fallocate(mode uint32, off, n int64) error {
	if err := unix.Fallocate(int(w.file.Fd()), mode, off, n); err != nil {
		return fmt.Errorf("fallocate %#x, %d at %d: %w", mode, n, off, err)
	}
	return nil
}

func (w *fsxWorker) dropCache(off, n int64) error {
	if w.r.IntN(4) == 0 {
		off, n = 0, 0 // all of the file
	}
	w.note(w.id, "drop cache", off, n)
	return unix.Fadvise(int(w.file.Fd()), off, n, unix.FADV_DONTNEED)
}

// seekAll: between what SEEK_DATA and SEEK_HOLE call data there are only zeros.
func (w *fsxWorker) seekAll(from, to int64) error {
	for off := from; off < to; {
		data, err := w.file.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			data, err = w.size(), nil
		}
		if err != nil || data < off {
			return fmt.Errorf("SEEK_DATA from %d: %d, %w", off, data, err)
		}
		hole := w.content[off:max(min(data, to), off)]
		if zeros := make([]byte, len(hole)); !bytes.Equal(hole, zeros) {
			return w.differs("a hole", off, zeros, hole)
		}
		if data >= to {
			return nil
		}
		// There may be a hole by now: zeros written through a mapping replace a parent's
		// data when the kernel writes them back.
		if off, err = w.file.Seek(data, unix.SEEK_HOLE); err != nil || off < data {
			return fmt.Errorf("SEEK_HOLE from %d: %d, %w", data, off, err)
		}
	}
	return nil
}

// passEnd writes over the end of the disk, or behind it.
func (w *fsxWorker) passEnd(s stripe) error {
	inside := int64(0)
	if s.to == w.size() {
		inside = min(w.r.Int64N(9000), s.to-s.from)
	}
	off := w.size() - inside
	p := append(bytes.Clone(w.change("write past the end", off, inside)), make([]byte, 5000)...)
	n, err := unix.Pwrite(int(w.file.Fd()), p, off) // WriteAt does not tell how far it came
	if int64(max(n, 0)) != inside || inside == 0 && !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("write %d at %d, past the end at %d: %d, %w", len(p), off, w.size(), n, err)
	}
	return nil
}
