package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vdfs/vdcore/vdtest"
)

// diskKind is a kind of image to work on. Of format "split" are VMDKs of several
// sparse files, of "flat" those without tables.
type diskKind struct {
	format string
	depth  int
}

func (k diskKind) String() string { return fmt.Sprintf("%s/%d", k.format, k.depth) }

// rawDisk is an image, made at random, and what it holds.
type rawDisk struct {
	path    string
	lower   []string // all files below the topmost image
	content []byte
	qemu    string // the format QEMU reads the image as; "" when it cannot
	vbox    bool   // VirtualBox can read it by itself
}

func (d *rawDisk) size() int64 { return int64(len(d.content)) }

// keptDir is a folder that goes with the test unless that failed.
func keptDir(t testing.TB, env string) string {
	dir, err := os.MkdirTemp(os.Getenv(env), "vdfs-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the images are kept in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newRawDisk(t testing.TB, r *rand.Rand, dir string, kind diskKind) *rawDisk {
	sectors := 24<<11 + r.Int64N(16<<11)
	d := &rawDisk{content: make([]byte, sectors*512)}
	switch kind.format {
	case "vdi":
		d.makeVDI(t, r, dir, kind.depth)
	case "vmdk":
		d.makeVMDK(t, r, dir, kind.depth)
	case "split", "flat":
		d.makeExtents(t, r, dir, kind.format)
	case "raw":
		d.content = append(d.content, make([]byte, r.IntN(512))...)
		d.path, d.qemu = filepath.Join(dir, "disk.raw"), "raw"
		d.base(r)
		writeFile(t, d.path, d.content)
	}
	return d
}

// base fills about half of an empty disk, in pieces.
func (d *rawDisk) base(r *rand.Rand) {
	for off := int64(0); off < d.size(); {
		end := min(off+1+r.Int64N(4<<20), d.size())
		if r.IntN(2) == 0 {
			fsxFill(d.content[off:end], off, 0)
		}
		off = end
	}
}

// convert has qemu-img make an image of content.
func convert(t testing.TB, content []byte, path, format string, options ...string) {
	raw := path + ".src"
	writeFile(t, raw, content)
	args := []string{"convert", "-f", "raw", "-O", format}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	tool(t, "qemu-img", append(args, raw, path)...)
	if err := os.Remove(raw); err != nil {
		t.Fatal(err)
	}
}

// makeVDI makes a chain of images with blocks of different sizes, or one of QEMU's.
func (d *rawDisk) makeVDI(t testing.TB, r *rand.Rand, dir string, depth int) {
	if depth == 1 && r.IntN(2) == 0 {
		d.path, d.qemu, d.vbox = filepath.Join(dir, "disk.vdi"), "vdi", true
		d.base(r)
		convert(t, d.content, d.path, "vdi", []string{"static=off", "static=on"}[r.IntN(4)/3])
		return
	}
	var parent *vdtest.VDI
	for n := range depth {
		path := filepath.Join(dir, fmt.Sprintf("layer%d.vdi", n))
		if n > 0 && n == depth-1 && r.IntN(2) == 0 {
			must(t, "snapshot", d.path, path)
		} else {
			block := []int64{1 << 20, 1 << 20, 128 << 10, 2 << 20}[r.IntN(4)]
			parent, d.content = vdtest.RandomVDI(r, parent, d.content, d.size(), block)
			writeFile(t, path, parent.Bytes())
		}
		d.push(path)
	}
}

// push puts an image on top of the chain.
func (d *rawDisk) push(path string) {
	if d.path != "" {
		d.lower = append(d.lower, d.path)
	}
	d.path = path
}

// makeVMDK has QEMU make a chain, vdfs some of its images, and QEMU fill them.
func (d *rawDisk) makeVMDK(t testing.TB, r *rand.Rand, dir string, depth int) {
	d.qemu = "vmdk"
	for n := range depth {
		path := filepath.Join(dir, fmt.Sprintf("layer%d.vmdk", n))
		zeroed := []string{"zeroed_grain=off", "zeroed_grain=on"}[r.IntN(2)]
		switch {
		case n == 0:
			d.base(r)
			convert(t, d.content, path, "vmdk", zeroed)
			d.vbox = depth == 1 && zeroed == "zeroed_grain=off" // otherwise its header has version 2
		case r.IntN(2) == 0:
			must(t, "snapshot", d.path, path)
		default:
			tool(t, "qemu-img", "create", "-q", "-f", "vmdk", "-o", zeroed, "-F", "vmdk", "-b", d.path, path, fmt.Sprint(d.size()))
		}
		if n > 0 && (n < depth-1 || r.IntN(2) == 0) {
			d.scribble(t, r, path, uint32(n))
		}
		d.push(path)
	}
}

// scribble has qemu-io write at random to an image.
func (d *rawDisk) scribble(t testing.TB, r *rand.Rand, path string, seq uint32) {
	args := []string{"-f", "vmdk"}
	for k := range 12 {
		off := r.Int64N(d.size()) &^ 511
		part := d.content[off:min(off+512*(1+r.Int64N(4096)), d.size())]
		if k%4 == 3 {
			clear(part)
			args = append(args, "-c", fmt.Sprintf("write -q -z %d %d", off, len(part)))
			continue
		}
		fsxFill(part, off, seq)
		src := fmt.Sprintf("%s.%d", path, k)
		writeFile(t, src, part)
		defer os.Remove(src)
		args = append(args, "-c", fmt.Sprintf("write -q -s %s %d %d", src, off, len(part)))
	}
	if out := tool(t, "qemu-io", append(args, path)...); out != "" {
		t.Fatalf("qemu-io: %s", out)
	}
}

// makeExtents makes a VMDK of several files: sparse ones or flat ones, and one that
// mixes them now and then.
func (d *rawDisk) makeExtents(t testing.TB, r *rand.Rand, dir, format string) {
	d.path, d.qemu = filepath.Join(dir, "disk.vmdk"), "vmdk"
	d.base(r)
	var lines strings.Builder
	mixed, align := r.IntN(3) == 0, int64(64<<10)
	if r.IntN(2) == 0 { // QEMU misreads what follows an extent that is not of whole grains
		align, d.qemu = 512, ""
	}
	for off, n := int64(0), 0; off < d.size(); n++ {
		end := min(off+(7<<20+r.Int64N(8<<20)&^(align-1)), d.size())
		sparse := format == "split"
		if mixed && n%2 == 1 {
			sparse = !sparse
		}
		lines.WriteString(extent(t, r, dir, n, d.content[off:end], sparse))
		off = end
	}
	writeFile(t, d.path, []byte("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\""+
		map[bool]string{false: "twoGbMaxExtentFlat", true: "twoGbMaxExtentSparse"}[format == "split"]+
		"\"\n\n# Extent description\n"+lines.String()+"\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n"))
}

// extent makes one file of a disk and returns its line.
func extent(t testing.TB, r *rand.Rand, dir string, n int, part []byte, sparse bool) string {
	if !sparse {
		name, from := fmt.Sprintf("disk-f%03d.vmdk", n), r.IntN(3)
		writeFile(t, filepath.Join(dir, name), append(make([]byte, from*512), part...))
		return fmt.Sprintf("RW %d FLAT \"%s\" %d\n", len(part)/512, name, from)
	}
	stem := fmt.Sprintf("part%d", n)
	convert(t, part, filepath.Join(dir, stem+".vmdk"), "vmdk", "subformat=twoGbMaxExtentSparse")
	os.Remove(filepath.Join(dir, stem+".vmdk"))
	return fmt.Sprintf("RW %d SPARSE \"%s-s001.vmdk\"\n", len(part)/512, stem)
}

// settled: an image that was unmounted is right for everybody, and without leaks.
func (d *rawDisk) settled(t testing.TB, content []byte) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "vdfs-copy")
	must(t, "copy", d.path, out)
	same(t, out, content)
	leaked := func(code string) bool { return code != "leaked-grain" } // grains given back stay in the midst of a VMDK
	if leaks := d.check(t); slices.ContainsFunc(leaks, leaked) {
		t.Errorf("%s: leaks %v", d.path, leaks)
	}
	d.asOthers(t, content)
	if d.qemu == "" || d.qemu == "raw" {
		return
	}
	r := command(t, nil, "qemu-img", "check", "-f", d.qemu, d.path)
	if r.code != 0 && !strings.Contains(r.stderr, "does not support checks") {
		t.Errorf("qemu-img check %s: exit %d\n%s%s", d.path, r.code, r.stdout, r.stderr)
	}
}

// asOthers compares what others read from the image, as far as they can.
func (d *rawDisk) asOthers(t testing.TB, content []byte) {
	t.Helper()
	if d.qemu == "" {
		return
	}
	out := filepath.Join(t.TempDir(), "qemu-convert")
	tool(t, "qemu-img", "convert", "-f", d.qemu, "-O", "raw", d.path, out)
	same(t, out, content)
	if d.vbox && strings.HasPrefix(d.path, "/tmp/vbx/") {
		d.asVirtualBox(t, content)
	}
}

// asVirtualBox has VirtualBox open a copy, and convert it. (vb runs it in a chroot
// that shares /tmp/vbx.)
func (d *rawDisk) asVirtualBox(t testing.TB, want []byte) {
	img, out := filepath.Join(filepath.Dir(d.path), "vbox."+d.qemu), filepath.Join(filepath.Dir(d.path), "vbox.raw")
	b, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, img, b)
	defer os.Remove(img)
	defer os.Remove(out)
	home := func(c *exec.Cmd) { c.Env = append(os.Environ(), "VB_HOME=/tmp/vbx/hkill") }
	for _, args := range [][]string{
		{"VBoxManage", "-q", "showmediuminfo", "disk", img}, {"VBoxManage", "-q", "closemedium", "disk", img},
		{"vbox-img", "convert", "--srcfilename", img, "--dstfilename", out, "--dstformat", "RAW"},
	} {
		if r := command(t, home, "vb", args...); r.code != 0 {
			t.Errorf("vb %v: exit %d\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	same(t, out, want)
}

// check has vdfs look for damage, and returns the leaks of the topmost image.
func (d *rawDisk) check(t testing.TB) (leaks []string) {
	t.Helper()
	var found struct {
		Damaged int
		Layers  []struct {
			Path     string
			Findings []struct{ Code string }
		}
	}
	text := must(t, "check", "--json", d.path)
	if err := json.Unmarshal([]byte(text), &found); err != nil || found.Damaged != 0 {
		t.Errorf("check: %v\n%s", err, text)
	}
	for _, l := range found.Layers {
		if filepath.Base(l.Path) != filepath.Base(d.path) {
			continue // nobody closed the parents but QEMU, which lets grains leak
		}
		for _, f := range l.Findings {
			leaks = append(leaks, f.Code)
		}
	}
	return leaks
}

// same compares a file with content. QEMU takes disks for whole grains large: what
// follows the content is zeros.
func same(t testing.TB, path string, content []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < len(content) || len(bytes.Trim(got[len(content):], "\x00")) > 0 {
		t.Errorf("%s: %d bytes, want %d", path, len(got), len(content))
		return
	}
	if got = got[:len(content)]; !bytes.Equal(got, content) {
		t.Errorf("%s: %v", path, (&journal{}).differs("content", 0, got, content))
	}
}
