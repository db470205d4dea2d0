package integration

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// machineCase is a machine made by VirtualBox, with what its own tools show of each
// disk and each snapshot.
type machineCase struct {
	Archive string        `json:"archive"`
	Open    []string      `json:"open"`   // names that all mean the machine
	Search  string        `json:"search"` // a folder its parents lie in
	Disks   []machineDisk `json:"disks"`
}

type machineDisk struct {
	Name      string `json:"name"`
	Capacity  int64  `json:"capacity"`
	SHA256    string `json:"sha256"`
	Snapshots []struct {
		File   string    `json:"file"`
		Taken  time.Time `json:"taken"` // zero: named after an image, not a snapshot
		SHA256 string    `json:"sha256"`
	} `json:"snapshots"`
}

const machineData = "testdata/machines/"

func machineCases(t testing.TB) (cases []machineCase) {
	t.Helper()
	b, err := os.ReadFile(machineData + "machines.json")
	if err == nil {
		err = json.Unmarshal(b, &cases)
	}
	if err != nil || len(cases) == 0 {
		t.Fatal(err)
	}
	return cases
}

// unpackMachine extracts a machine's files and returns their folder.
func unpackMachine(t testing.TB, archive string) string {
	t.Helper()
	f, err := os.Open(machineData + archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	dir := t.TempDir()
	if err := untarTo(dir, tar.NewReader(z)); err != nil {
		t.Fatalf("%s: %v", archive, err)
	}
	return dir
}

func untarTo(dir string, r *tar.Reader) error {
	for {
		h, err := r.Next()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if err = errors.Join(err, os.WriteFile(path, b, 0o644)); err != nil {
			return err
		}
	}
}

// args are what opens one name of a machine.
func (c *machineCase) args(dir, name string) []string {
	args := []string{filepath.Join(dir, name)}
	if c.Search != "" {
		args = append([]string{"--search", filepath.Join(dir, c.Search)}, args...)
	}
	return args
}

// TestMachines: by whatever name it is opened, a machine shows every disk and every
// snapshot under its name, with its time and with the content VirtualBox shows.
func TestMachines(t *testing.T) {
	for _, c := range machineCases(t) {
		for _, name := range c.Open {
			t.Run(strings.TrimSuffix(c.Archive, ".tar.zst")+"/"+filepath.Base(name), func(t *testing.T) {
				t.Parallel()
				mnt := mount(t, c.args(unpackMachine(t, c.Archive), name)...)
				var want []string
				for _, d := range c.Disks {
					want = append(want, d.Name)
					d.check(t, filepath.Join(mnt, d.Name))
				}
				wantNames(t, mnt, want)
			})
		}
	}
}

func (d *machineDisk) check(t *testing.T, dir string) {
	t.Helper()
	check(t, filepath.Join(dir, "disk.raw"), d.Capacity, d.SHA256)
	var want []string
	for _, s := range d.Snapshots {
		path := filepath.Join(dir, "snapshots", s.File)
		check(t, path, d.Capacity, s.SHA256)
		st, err := os.Stat(path)
		if err == nil && !s.Taken.IsZero() && !st.ModTime().Equal(s.Taken) {
			t.Errorf("%s: its time is %v, the snapshot's %v", path, st.ModTime(), s.Taken)
		}
		want = append(want, s.File, strings.TrimSuffix(s.File, ".raw")) // for its partitions
	}
	wantNames(t, filepath.Join(dir, "snapshots"), want)
}

// wantNames wants these names in a folder, and no others.
func wantNames(t *testing.T, dir string, want []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", dir, got, want)
	}
}

// buero unpacks the machine with two disks and branches.
func buero(t testing.TB) (dir, vbox string) {
	t.Helper()
	dir = unpackMachine(t, "buero.tar.zst")
	return dir, filepath.Join(dir, "Büro VM", "Büro VM.vbox")
}

// TestMachineInfo: names, descriptions and times are told, and which snapshot the
// present state was made from.
func TestMachineInfo(t *testing.T) {
	_, vbox := buero(t)
	var m struct {
		Machine struct {
			Name, Kind string
			Snapshots  []struct {
				Name, Description, Taken string
				Parent                   int
				Current                  bool
			}
		}
		Disks []struct {
			Name, Slot string
			Disk       struct {
				Layers []struct {
					Snapshots []struct{ Name, Taken string }
				}
			}
		}
	}
	parse(t, must(t, "info", "--json", vbox), &m)
	s := m.Machine.Snapshots
	if m.Machine.Name != "Büro VM" || m.Machine.Kind != "virtualbox" || len(s) != 5 || len(m.Disks) != 2 {
		t.Fatalf("%+v", m)
	}
	if s[0].Description != "vor den Änderungen\nzweite Zeile" || s[0].Taken != "2026-11-26T02:02:28Z" || s[3].Parent != 0 || !s[4].Current || s[2].Current {
		t.Errorf("%+v", s)
	}
	d := m.Disks[1]
	if d.Slot != "SATA port 1" || len(d.Disk.Layers) != 4 || d.Disk.Layers[1].Snapshots[0].Name != "vor Update / 2" || d.Disk.Layers[3].Snapshots != nil {
		t.Errorf("%+v", d)
	}
	if text := must(t, "info", vbox); !strings.Contains(text, "Zweig: Ärger über <x> & \"y\"") {
		t.Error(text)
	}
	parse(t, must(t, "info", "--json", "--disk", "Daten-ü", vbox), &d.Disk)
	if len(d.Disk.Layers) != 4 {
		t.Errorf("--disk: %+v", d)
	}
}

// TestMachineOneDisk: where one image is wanted, a machine with one disk is that disk,
// and of several one has to be chosen.
func TestMachineOneDisk(t *testing.T) {
	dir, vbox := buero(t)
	hash := machineCases(t)[0].Disks[1].SHA256
	for _, verb := range []string{"copy", "convert"} {
		out := filepath.Join(t.TempDir(), "out.raw")
		must(t, verb, "--disk", "Daten-ü", vbox, out)
		check(t, out, 5<<20, hash)
	}
	for _, verb := range []string{"map", "chain", "diff"} {
		must(t, verb, "--disk", "Daten-ü", vbox)
		r := vdfs(t, verb, vbox)
		if r.code != 1 || !strings.Contains(r.stderr, `"System Disk", "Daten-ü"`) || !strings.Contains(r.stderr, "--disk") {
			t.Errorf("%s without --disk: exit %d, %s", verb, r.code, r.stderr)
		}
	}
	ova := filepath.Join(unpackMachine(t, "ova-vbox.tar.zst"), "disk.ova")
	out := filepath.Join(t.TempDir(), "out.vdi")
	must(t, "convert", ova, out)
	must(t, "compare", ova, out)
	must(t, "check", ova)
	file := filepath.Join(t.TempDir(), "mnt")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mountAt(t, file, ova)
	check(t, file, 14680064, machineCases(t)[len(machineCases(t))-1].Disks[0].SHA256)
	for _, args := range [][]string{
		{"set", "--comment", "x", vbox}, {"rm", vbox}, {"rename", vbox, vbox + "2"}, {"merge", vbox}, {"check", "--repair", vbox},
		{"rm", filepath.Join(dir, "v1.ova")}, {"info", "--disk", "none", vbox}, {"copy", "--disk", "x", out, "-"},
	} {
		if r := vdfs(t, args...); r.code != 1 {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
	}
	if _, err := os.Stat(vbox); err != nil {
		t.Error(err)
	}
}

// TestMachineWritten: what is written goes to the present state alone, and nowhere into
// an archive.
func TestMachineWritten(t *testing.T) {
	dir, vbox := buero(t)
	c := machineCases(t)[0]
	mnt := mount(t, "--rw", vbox)
	f, err := os.OpenFile(filepath.Join(mnt, "System Disk", "disk.raw"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteAt([]byte("written"), 4096); err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Disks[0].Snapshots {
		check(t, filepath.Join(mnt, "System Disk", "snapshots", s.File), c.Disks[0].Capacity, s.SHA256)
	}
	if r := vdfs(t, "mount", "--rw", filepath.Join(dir, "v1.ova"), t.TempDir()); r.code != 2 || !strings.Contains(r.stderr, "archive") {
		t.Errorf("an archive: exit %d, %s", r.code, r.stderr)
	}
	if r := vdfs(t, "mount", "--overlay", "tmp", "--disk", "Büro VM-disk001", filepath.Join(dir, "v1.ova"), t.TempDir()); r.code != 2 || !strings.Contains(r.stderr, "archive") {
		t.Errorf("an overlay on an archive: exit %d, %s", r.code, r.stderr)
	}
	_, vbox = buero(t)
	mnt = mount(t, "--overlay", filepath.Join(t.TempDir(), "changes.vmdk"), "--disk", "Daten-ü", vbox)
	for _, s := range c.Disks[1].Snapshots {
		check(t, filepath.Join(mnt, "Daten-ü", "snapshots", s.File), c.Disks[1].Capacity, s.SHA256)
	}
}

// TestMachineChanged: an image that was given another name is found by its UUID; a
// snapshot of which the image is gone is a warning, and those before it are shown; a disk
// that is detached now is shown as the newest snapshot has it.
func TestMachineChanged(t *testing.T) {
	_, vbox := buero(t)
	folder := filepath.Dir(vbox)
	text, err := os.ReadFile(vbox)
	if err != nil {
		t.Fatal(err)
	}
	now := strings.LastIndex(string(text), "<StorageControllers>")
	detached := regexp.MustCompile(`(?s)<AttachedDevice [^>]*port="1".*?</AttachedDevice>`).ReplaceAllString(string(text[now:]), "")
	if err := errors.Join(
		os.Rename(filepath.Join(folder, "System Disk.vdi"), filepath.Join(folder, "moved.vdi")),
		os.Remove(filepath.Join(folder, "Snapshots", "{2c9b64cf-558f-43cf-b000-cdde3252132d}.vdi")), // "verworfen"
		os.WriteFile(vbox, []byte(string(text[:now])+detached), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	mnt := t.TempDir()
	r := mountAt(t, mnt, vbox)
	if !strings.Contains(r.stderr, `the snapshot "verworfen" of the disk System Disk cannot be shown`) {
		t.Error(r.stderr)
	}
	disks := machineCases(t)[0].Disks
	disks[0].Snapshots = slices.Delete(disks[0].Snapshots, 2, 3)
	disks[1].SHA256 = disks[1].Snapshots[4].SHA256
	for _, d := range disks {
		d.check(t, filepath.Join(mnt, d.Name))
	}
	if out := must(t, "info", vbox); !strings.Contains(out, "Daten-ü, SATA port 1, 5 MiB, only in snapshots") {
		t.Error(out)
	}
}

// TestMachineManifest: a digest that does not fit is damage, and so is a manifest that
// cannot be understood.
func TestMachineManifest(t *testing.T) {
	dir, _ := buero(t)
	for _, name := range []string{"v1.ova", "v2.ova", "dir.ovf"} {
		if out := must(t, "check", filepath.Join(dir, name)); strings.Count(out, "as the manifest says") != 3 {
			t.Errorf("%s: %s", name, out)
		}
	}
	flip(t, filepath.Join(dir, "Büro VM-disk002.vmdk"), 70000)
	r := vdfs(t, "check", filepath.Join(dir, "dir.ovf"))
	if r.code != 4 || !strings.Contains(r.stdout, "Büro VM-disk002.vmdk: NOT as the manifest says") {
		t.Errorf("one byte flipped: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	if err := os.WriteFile(filepath.Join(dir, "dir.mf"), []byte("MD5(dir.ovf)= 00\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := vdfs(t, "check", filepath.Join(dir, "dir.ovf")); r.code != 4 || !strings.Contains(r.stderr, "MD5") {
		t.Errorf("MD5: exit %d, %s", r.code, r.stderr)
	}
}
