package imgops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage/faultfs"
	"vdfs/vdcore/vdtest"
)

// largeDisk: golden disks beyond it are nearly empty, and take long all the same.
const largeDisk = 64 << 20

// openGolden unpacks a golden chain and opens it.
func openGolden(t testing.TB, c vdtest.Case) *vdcore.Chain {
	t.Helper()
	dir := t.TempDir()
	vdtest.Unpack(t, c.Archive, dir)
	return openImage(t, filepath.Join(dir, c.Layers[0].File))
}

func openImage(t testing.TB, path string) *vdcore.Chain {
	t.Helper()
	o := vdcore.Options{}
	if filepath.Ext(path) == ".raw" {
		o.Format = rawFormat
	}
	c, err := vdcore.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// diskSum is the hash of a disk, read by other means than a conversion.
func diskSum(t testing.TB, d *vdcore.Disk) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(d, 0, d.Capacity())); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestConvert: every golden chain, made into each format, and one into every variant, is
// the same disk to vdfs, also when it is made into a plain disk again, and to QEMU.
func TestConvert(t *testing.T) {
	for _, golden := range vdtest.Cases(t) {
		if golden.Layers[0].Capacity > largeDisk {
			continue
		}
		t.Run(golden.Name(), func(t *testing.T) {
			t.Parallel()
			c := openGolden(t, golden)
			want, dir := golden.Layers[0], t.TempDir()
			plain := filepath.Join(dir, "plain.raw")
			if _, err := Convert(t.Context(), c, plain, Conversion{}); err != nil {
				t.Fatal(err)
			}
			for _, b := range vdcore.Backends() {
				for _, m := range b.Makes {
					if m.Name == vdcore.Differencing || golden.Archive != "vmdk-diff3.tar.gz" && m.Name != b.Makes[0].Name && m.Name != streamVariant {
						continue
					}
					path := filepath.Join(dir, m.Name+b.Extensions[0])
					made, err := Convert(t.Context(), c, path, Conversion{Variant: m.Name, Checksum: true})
					if err != nil || hex.EncodeToString(made.SHA256) != want.SHA256 || made.Path != path {
						t.Fatalf("%s: %+v, %v", path, made, err)
					}
					image := openImage(t, path)
					if got := diskSum(t, image.Top()); got != want.SHA256 || image.Top().Capacity() != want.Capacity {
						t.Errorf("%s shows %s", path, got)
					}
					if got := image.Layers()[0].Info().Variant; got != m.Variant {
						t.Errorf("%s is of variant %s", path, got)
					}
					back, err := ConvertTo(t.Context(), image, io.Discard, Conversion{Format: "raw", Checksum: true})
					if err != nil || hex.EncodeToString(back.SHA256) != want.SHA256 {
						t.Errorf("%s made into a plain disk is %x, %v", path, back.SHA256, err)
					}
					qemuAgrees(t, b.Name, path, plain)
				}
			}
		})
	}
}

// qemuAgrees has qemu-img check an image and compare it with a plain disk.
func qemuAgrees(t *testing.T, format, path, plain string) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		return
	}
	if out, err := exec.Command("qemu-img", "compare", "-f", format, "-F", "raw", path, plain).CombinedOutput(); err != nil {
		t.Errorf("%s: qemu-img compare: %v: %s", path, err, out)
	}
	out, err := exec.Command("qemu-img", "check", "-f", format, path).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() != 63 { // no checks for this format
		t.Errorf("%s: qemu-img check: %v: %s", path, err, out)
	}
}

// TestConvertChain: each layer of a golden chain, made into the other format, shows
// what it showed.
func TestConvertChain(t *testing.T) {
	for _, golden := range vdtest.Cases(t) {
		if len(golden.Layers) == 1 || golden.Layers[0].Capacity > largeDisk {
			continue
		}
		for _, format := range []string{"vdi", "vmdk"} {
			t.Run(golden.Name()+"-"+format, func(t *testing.T) {
				t.Parallel()
				c, dir := openGolden(t, golden), filepath.Join(t.TempDir(), "new")
				made, err := ConvertChain(t.Context(), c, dir, Conversion{Format: format, Checksum: true})
				if err != nil || len(made) != len(golden.Layers) {
					t.Fatalf("%d images, %v", len(made), err)
				}
				ids := map[string]bool{}
				for i, m := range made {
					want := golden.Layers[len(made)-1-i]
					l := openImage(t, m.Path)
					if got := diskSum(t, l.Top()); got != want.SHA256 || hex.EncodeToString(m.SHA256) != want.SHA256 {
						t.Errorf("%s shows %s, says %x, want %s", m.Path, got, m.SHA256, want.SHA256)
					}
					if len(l.Layers()) != i+1 || len(l.Warnings()) != 0 {
						t.Errorf("%s has %d layers, warnings %q", m.Path, len(l.Layers()), l.Warnings())
					}
					ids[l.Top().Layer().Info().UUID.String()] = true
				}
				if len(ids) != len(made) {
					t.Errorf("identities %v", ids)
				}
				if _, err := ConvertChain(t.Context(), c, dir, Conversion{Format: format}); !errors.Is(err, fs.ErrExist) {
					t.Errorf("once more: %v", err)
				}
				if list, err := os.ReadDir(dir); len(list) != len(made) {
					t.Errorf("%d files, %v", len(list), err)
				}
			})
		}
	}
}

// goldenNamed is the golden chain of an archive.
func goldenNamed(t testing.TB, archive string) vdtest.Case {
	t.Helper()
	for _, c := range vdtest.Cases(t) {
		if c.Archive == archive {
			return c
		}
	}
	t.Fatalf("no %s", archive)
	return vdtest.Case{}
}

// TestConvertStops: what is interrupted leaves nothing, and with Force what was there.
func TestConvertStops(t *testing.T) {
	c := openGolden(t, goldenNamed(t, "demo.tar.gz"))
	eachMaking(t, func(t *testing.T, b vdcore.Backend, m vdcore.Making) {
		dir := t.TempDir()
		path := filepath.Join(dir, "disk"+b.Extensions[0])
		for _, old := range []string{"", "old"} {
			if old != "" {
				if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			_, err := Convert(ctx, c, path, Conversion{Variant: m.Name, Force: old != "", Progress: func(int64, int64) { cancel() }})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			list, err := os.ReadDir(dir)
			if got, _ := os.ReadFile(path); err != nil || len(list) != len(old)/3 || string(got) != old {
				t.Errorf("left are %v, %q, %v", list, got, err)
			}
		}
	})
	dir := filepath.Join(t.TempDir(), "new")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := ConvertChain(ctx, c, dir, Conversion{Format: "vmdk", Progress: func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	}})
	if _, left := os.Stat(dir); !errors.Is(err, context.Canceled) || !errors.Is(left, fs.ErrNotExist) {
		t.Errorf("a chain: %v, %v", err, left)
	}
}

// TestConvertRefuses: a target that is there stays, that of the source with Force too.
func TestConvertRefuses(t *testing.T) {
	c := openGolden(t, goldenNamed(t, "demo.tar.gz"))
	for _, l := range c.Layers() {
		for _, force := range []bool{false, true} {
			if _, err := Convert(t.Context(), c, l.Path, Conversion{Force: force}); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s, force %v: %v", l.Path, force, err)
			}
		}
	}
	dir := t.TempDir()
	for _, o := range []Conversion{{Format: "vdi", Variant: "stream"}, {Format: "raw", Variant: "esx"}, {Format: "vmdk", Variant: vdcore.Differencing}} {
		if _, err := Convert(t.Context(), c, filepath.Join(dir, "new"), o); !errors.Is(err, vdcore.ErrUnsupported) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := Convert(t.Context(), c, filepath.Join(dir, "new.qcow2"), Conversion{}); !errors.Is(err, ErrExtension) {
		t.Error(err)
	}
	for _, o := range []Conversion{{Format: "raw"}, {Format: "vmdk", Variant: "split2g"}} {
		if _, err := ConvertChain(t.Context(), c, dir, o); !errors.Is(err, vdcore.ErrUnsupported) {
			t.Errorf("a chain, %+v: %v", o, err)
		}
	}
	if _, err := ConvertTo(t.Context(), c, io.Discard, Conversion{Format: "vdi"}); !errors.Is(err, vdcore.ErrUnsupported) {
		t.Error(err)
	}
	if list, err := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("left are %v, %v", list, err)
	}
}

// TestConvertFaults: whatever fails, for want of space or otherwise, the error is told
// and nothing is left.
func TestConvertFaults(t *testing.T) {
	c := openGolden(t, goldenNamed(t, "vmdk-diff3.tar.gz"))
	const growing = faultfs.Write | faultfs.Truncate | faultfs.Allocate | faultfs.Sync | faultfs.DataSync | faultfs.Create | faultfs.SyncDir
	do := map[string]func(*faultfs.FS) error{
		"chain": func(f *faultfs.FS) error {
			_, err := convertChain(t.Context(), f, c, "/new", Conversion{Format: "vmdk"})
			return err
		},
	}
	for _, v := range []string{"a.vdi", "a.vmdk split2g", "a.vmdk stream", "a.vmdk fixed", "a.raw"} {
		name, variant, _ := strings.Cut(v, " ")
		do[v] = func(f *faultfs.FS) error {
			_, err := convert(t.Context(), f, c, "/new/"+name, Conversion{Variant: variant})
			return err
		}
	}
	for name, do := range do {
		t.Run(name, func(t *testing.T) {
			m := vdtest.NewMem()
			f := faultfs.New(m, faultfs.Rule{Ops: growing})
			if err := do(f); err != nil {
				t.Fatal(err)
			}
			n := f.Count()
			for at := 1; at <= n; at += 1 + n/8 {
				for _, rule := range []faultfs.Rule{{Err: syscall.ENOSPC, Short: true}, {Err: syscall.EIO}} {
					m := vdtest.NewMem()
					rule.Ops, rule.At = growing, at
					f := faultfs.New(m, rule)
					err := do(f)
					if list, _ := m.List("/new"); !errors.Is(err, rule.Err) || len(list) != 0 || m.OpenFiles() != 0 {
						t.Fatalf("%v: %v; left are %v, %d files open", f.Failed(), err, list, m.OpenFiles())
					}
				}
			}
		})
	}
}

// TestConvertUnsynced: an image is the same whether it is waited for until it is on disk
// or not, and only the latter syncs nothing.
func TestConvertUnsynced(t *testing.T) {
	golden := goldenNamed(t, "vmdk-diff3.tar.gz")
	c := openGolden(t, golden)
	for _, v := range []string{"a.vdi", "a.vmdk split2g", "a.vmdk stream", "a.raw"} {
		name, variant, _ := strings.Cut(v, " ")
		for _, unsynced := range []bool{false, true} {
			m := vdtest.NewMem()
			f := faultfs.New(m, faultfs.Rule{Ops: faultfs.Sync | faultfs.DataSync | faultfs.SyncDir})
			o := Conversion{Variant: variant, NoSync: unsynced}
			if _, err := convert(t.Context(), f, c, "/new/"+name, o); err != nil {
				t.Fatal(err)
			}
			if n := f.Count(); unsynced != (n == 0) {
				t.Errorf("%s, unsynced %v: synced %d times", v, unsynced, n)
			}
			image, err := vdcore.OpenFS(m, "/new/"+name, vdcore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := diskSum(t, image.Top()); got != golden.Layers[0].SHA256 {
				t.Errorf("%s, unsynced %v, shows %s", v, unsynced, got)
			}
			image.Close()
		}
	}
	f := faultfs.New(vdtest.NewMem(), faultfs.Rule{Ops: faultfs.Sync | faultfs.DataSync | faultfs.SyncDir})
	if _, err := convertChain(t.Context(), f, c, "/chain", Conversion{Format: "vdi", NoSync: true}); err != nil || f.Count() != 0 {
		t.Errorf("a chain, unsynced: %v, synced %d times", err, f.Count())
	}
	if _, err := Convert(t.Context(), c, t.TempDir()+"/a.vdi", Conversion{NoSync: true, Force: true}); !errors.Is(err, vdcore.ErrUnsupported) {
		t.Errorf("replaced by one that is not on disk: %v", err)
	}
}

// TestConvertOdd: a disk that is no whole number of sectors gets zeros, but stays as it
// is as a plain disk.
func TestConvertOdd(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(dir, "odd.raw")
	content := []byte(strings.Repeat("odd sized disk ", 100001))
	if err := os.WriteFile(from, content, 0o600); err != nil {
		t.Fatal(err)
	}
	c := openImage(t, from)
	for _, name := range []string{"a.vdi", "a.vmdk", "b.vmdk", "c.raw"} {
		o := Conversion{}
		if name == "b.vmdk" {
			o.Variant = streamVariant
		}
		made, err := Convert(t.Context(), c, filepath.Join(dir, name), o)
		if err != nil {
			t.Fatal(err)
		}
		image := openImage(t, made.Path)
		if got := image.Top().Capacity(); got != int64(len(content))+made.Padded || name == "c.raw" != (made.Padded == 0) {
			t.Errorf("%s: %d bytes, %d of them more", name, got, made.Padded)
		}
		d, err := Compare(t.Context(), c.Top(), image.Top(), true, nil)
		if err != nil || !d.Equal() || d.Longer != made.Padded {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// TestConvertTo: the streams are what the files are.
func TestConvertTo(t *testing.T) {
	golden := goldenNamed(t, "demo.tar.gz")
	c := openGolden(t, golden)
	for _, o := range []Conversion{{Format: "raw"}, {Format: "vmdk", Variant: streamVariant}} {
		path := filepath.Join(t.TempDir(), "disk."+o.Format)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		o.Checksum = true
		made, err := ConvertTo(t.Context(), c, f, o)
		if err = errors.Join(err, f.Close()); err != nil || hex.EncodeToString(made.SHA256) != golden.Layers[0].SHA256 {
			t.Errorf("%x, %v", made.SHA256, err)
		}
		if got := diskSum(t, openImage(t, path).Top()); got != golden.Layers[0].SHA256 {
			t.Errorf("%s shows %s", o.Format, got)
		}
		if _, err := ConvertTo(t.Context(), c, &fullPipe{room: 9000}, o); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a pipe that breaks: %v", err)
		}
	}
}

// fullPipe breaks after some bytes.
type fullPipe struct{ room int }

func (p *fullPipe) Write(b []byte) (int, error) {
	n := min(len(b), p.room)
	if p.room -= n; n < len(b) {
		return n, syscall.EPIPE
	}
	return n, nil
}

// TestLayerNames: layers of one name get different ones.
func TestLayerNames(t *testing.T) {
	c := openGolden(t, goldenNamed(t, "vmlayout.tar.gz"))
	names := layerNames(c, ".vmdk")
	if sorted := slices.Compact(slices.Sorted(slices.Values(names))); len(sorted) != len(c.Layers()) {
		t.Errorf("%q", names)
	}
	for _, l := range c.Layers() {
		l.Path = "/vm/Disk.vdi"
	}
	if got := fmt.Sprint(layerNames(c, ".vmdk")[:2]); got != "[Disk.vmdk Disk-2.vmdk]" {
		t.Error(got)
	}
}
