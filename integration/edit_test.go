package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vdfs/vdcore/vdtest"
)

// editLimit is the largest disk whose content is hashed here; what an image of
// several pieces holds after these verbs is tested in vdcore/imgops.
const editLimit = 64 << 20

// holdsDisk compares an image's content with what its makers show.
func holdsDisk(t *testing.T, path string, capacity int64, hash string) {
	t.Helper()
	if capacity > editLimit {
		must(t, "check", path)
		return
	}
	out := filepath.Join(t.TempDir(), "out.raw")
	must(t, "copy", path, out)
	check(t, out, capacity, hash)
}

// sizeInQEMU is what QEMU says of an image's size, 0 when it does not read it.
func sizeInQEMU(t *testing.T, path string) int64 {
	t.Helper()
	needTool(t, "qemu-img")
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if r := command(t, nil, "qemu-img", "info", "--output=json", path); r.code == 0 {
		parse(t, r.stdout, &info)
	}
	return info.Size
}

type topLayer struct {
	Comment string
	UUIDs   struct {
		Image, Modification, Parent string
	} `json:"uuids"`
	Geometry json.RawMessage
	Variant  string
}

// topInfo is what vdfs says of the topmost image.
func topInfo(t *testing.T, path string) topLayer {
	t.Helper()
	var info struct{ Layers []topLayer }
	parse(t, must(t, "info", "--json", path), &info)
	return info.Layers[len(info.Layers)-1]
}

func namesIn(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestSetGolden: comment, UUIDs and geometry are what was set, in every layer of
// every golden chain that can be changed, and the disks stay what they are.
func TestSetGolden(t *testing.T) {
	for _, c := range vdtest.Cases(t) {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			dir := unpack(t, c.Archive)
			for _, l := range c.Layers {
				path := filepath.Join(dir, l.File)
				before, size := topInfo(t, path), sizeInQEMU(t, path)
				args := []string{"set", path, "--comment", "Grüße aus Köln", "--pchs", "17/16/63"}
				if before.Variant == "streamOptimized" {
					if r := vdfs(t, args...); r.code != 2 || !strings.Contains(r.stderr, "streamOptimized") {
						t.Errorf("exit %d, %q", r.code, r.stderr)
					}
					continue
				}
				if path == filepath.Join(dir, c.Layers[0].File) { // nobody's parent
					args = append(args, "--uuid", "c1142b7f-46ea-4b5d-b9e9-d50c2fef6334", "--modification-uuid", "random")
				}
				if r := vdfs(t, args...); r.code == 5 && strings.Contains(r.stderr, ".vbox") {
					must(t, append(args, "--break-children")...)
				} else if r.code != 0 {
					t.Fatalf("%s: exit %d, %q", l.File, r.code, r.stderr)
				}
				after := topInfo(t, path)
				if after.Comment != "Grüße aus Köln" || !strings.Contains(string(after.Geometry), "17") ||
					len(args) > 6 && after.UUIDs.Image != "c1142b7f-46ea-4b5d-b9e9-d50c2fef6334" {
					t.Errorf("%s: %+v", l.File, after)
				}
				if len(args) == 6 && after.UUIDs != before.UUIDs {
					t.Errorf("%s: UUIDs %v, before %v", l.File, after.UUIDs, before.UUIDs)
				}
				if got := sizeInQEMU(t, path); got != size {
					t.Errorf("%s: QEMU sees %d bytes, before %d", l.File, got, size)
				}
			}
			holdsDisk(t, filepath.Join(dir, c.Layers[0].File), c.Layers[0].Capacity, c.Layers[0].SHA256)
		})
	}
}

// TestRenameGolden: the topmost image of every golden chain opens under another
// name, and nothing is left under the old one; rm leaves nothing but its parents.
func TestRenameGolden(t *testing.T) {
	for _, c := range vdtest.Cases(t) {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			dir := unpack(t, c.Archive)
			path := filepath.Join(dir, c.Layers[0].File)
			size, before := sizeInQEMU(t, path), namesIn(t, filepath.Dir(path))
			to := filepath.Join(filepath.Dir(path), "neuer Name"+filepath.Ext(path))
			r := vdfs(t, "rename", path, to)
			if registered := strings.Contains(r.stderr, ".vbox"); r.code == 5 && registered {
				must(t, "rename", "--break-children", path, to)
			} else if r.code != 0 {
				t.Fatalf("exit %d, %q", r.code, r.stderr)
			}
			var want []string
			for _, n := range before {
				if rest, ok := strings.CutPrefix(n, stem(path)); ok && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "-")) {
					n = "neuer Name" + rest
				}
				want = append(want, n)
			}
			slices.Sort(want)
			if got := namesIn(t, filepath.Dir(path)); !slices.Equal(got, want) {
				t.Errorf("there are %q, not %q", got, want)
			}
			if got := sizeInQEMU(t, to); got != size {
				t.Errorf("QEMU sees %d bytes, before %d", got, size)
			}
			holdsDisk(t, to, c.Layers[0].Capacity, c.Layers[0].SHA256)
			must(t, "rm", "--break-children", to)
			rest := slices.DeleteFunc(want, func(n string) bool { return strings.HasPrefix(n, "neuer Name") })
			if got := namesIn(t, filepath.Dir(path)); !slices.Equal(got, rest) {
				t.Errorf("rm leaves %q, not %q", got, rest)
			}
		})
	}
}

// TestRenameElsewhere: to another folder, from where the parent is found or missed.
func TestRenameElsewhere(t *testing.T) {
	dir := demoChain(t)
	below, deep := filepath.Join(dir, "a"), filepath.Join(dir, "b", "c")
	for _, d := range []string{below, deep} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	one, two := filepath.Join(below, "one.vdi"), filepath.Join(deep, "two.vdi")
	if r := vdfs(t, "rename", filepath.Join(dir, "updated.vdi"), one); r.code != 0 || r.stderr != "" {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
	if r := vdfs(t, "rename", one, two); r.code != 0 || !strings.Contains(r.stderr, "does not open with its parent") {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
	must(t, "info", "--search", dir, two)
	shm, err := os.MkdirTemp("/dev/shm", "vdfs-edit-")
	if err != nil {
		t.Skipf("SKIP: no /dev/shm: %v", err)
	}
	defer os.RemoveAll(shm)
	if r := vdfs(t, "rename", two, filepath.Join(shm, "three.vdi")); r.code != 2 || !strings.Contains(r.stderr, "another file system") {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
}

// TestEditRefused: what must not be changed, and what makes no sense.
func TestEditRefused(t *testing.T) {
	dir := demoChain(t)
	base, top := filepath.Join(dir, "base.vdi"), filepath.Join(dir, "updated.vdi")
	raw := filepath.Join(dir, "plain.raw")
	if err := os.WriteFile(raw, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.vdi")
	if err := os.Symlink("updated.vdi", link); err != nil {
		t.Fatal(err)
	}
	before := map[string]string{}
	for _, name := range namesIn(t, dir) {
		before[name] = sum(t, filepath.Join(dir, name))
	}
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{5, "installed.vdi", []string{"set", base, "--uuid", "random"}},
		{5, "installed.vdi", []string{"set", base, "--modification-uuid", "random"}},
		{5, "installed.vdi", []string{"rename", base, filepath.Join(dir, "new.vdi")}},
		{5, "installed.vdi", []string{"rm", base}},
		{2, "exist", []string{"rename", top, base}},
		{2, "does not convert", []string{"rename", top, filepath.Join(dir, "new.vmdk")}},
		{2, "symbolic link", []string{"rm", link}},
		{2, "symbolic link", []string{"rename", link, filepath.Join(dir, "new.vdi")}},
		{2, "no such file", []string{"rename", filepath.Join(dir, "none.vdi"), filepath.Join(dir, "new.vdi")}},
		{2, "no such file", []string{"rm", filepath.Join(dir, "none.vdi")}},
		{1, "nothing to set", []string{"set", top}},
		{1, "no UUID", []string{"set", top, "--uuid", "one"}},
		{1, "no UUID", []string{"set", top, "--parent-uuid", "random"}},
		{1, "three numbers", []string{"set", top, "--pchs", "1/2"}},
		{2, "null", []string{"set", top, "--uuid", "00000000-0000-0000-0000-000000000000"}},
		{2, "16383/16/63", []string{"set", top, "--pchs", "1/255/63"}},
		{2, "255", []string{"set", top, "--comment", strings.Repeat("ü", 128)}},
		{2, "file name", []string{"set", top, "--parent-file", "base.vdi"}},
		{2, "no parent", []string{"set", base, "--parent-uuid", "11111111-2222-4333-8444-555555555555"}},
		{2, "raw image", []string{"set", raw, "--comment", "x"}},
	} {
		if r := vdfs(t, c.args...); r.code != c.code || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%q: exit %d, %q", c.args, r.code, r.stderr)
		}
	}
	mnt := mount(t, top)
	for _, args := range [][]string{{"set", top, "--comment", "x"}, {"rename", top, filepath.Join(dir, "new.vdi")}, {"rm", top}} {
		if r := vdfs(t, args...); r.code != 5 {
			t.Errorf("%q of a mounted image: exit %d, %q", args, r.code, r.stderr)
		}
	}
	must(t, "umount", mnt)
	for name, was := range before {
		if sum(t, filepath.Join(dir, name)) != was {
			t.Errorf("%s has changed", name)
		}
	}
}

// TestRegistered: a machine's medium keeps its name and its UUID.
func TestRegistered(t *testing.T) {
	dir := demoChain(t)
	top := filepath.Join(dir, "updated.vdi")
	id := topInfo(t, top).UUIDs.Image
	vbox := `<?xml version="1.0"?><VirtualBox><Machine><MediaRegistry><HardDisks><HardDisk uuid="{` + id + `}" location="updated.vdi"/></HardDisks></MediaRegistry></Machine></VirtualBox>`
	if err := os.WriteFile(filepath.Join(dir, "vm.vbox"), []byte(vbox), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"set", top, "--uuid", "random"}, {"rename", top, filepath.Join(dir, "new.vdi")}, {"rm", top}} {
		if r := vdfs(t, args...); r.code != 5 || !strings.Contains(r.stderr, "vm.vbox") {
			t.Errorf("%q: exit %d, %q", args, r.code, r.stderr)
		}
	}
	must(t, "set", top, "--comment", "mine")
}

// TestReparent: a child that lost its parent is given another one.
func TestReparent(t *testing.T) {
	dir := demoChain(t)
	top, base := filepath.Join(dir, "updated.vdi"), filepath.Join(dir, "configured.vdi")
	r := vdfs(t, "set", top, "--parent-uuid", "11111111-2222-4333-8444-555555555555")
	if r.code != 0 || !strings.Contains(r.stderr, "does not open with its parent") {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
	if r := vdfs(t, "info", top); r.code != 3 {
		t.Errorf("info: exit %d, %q", r.code, r.stderr)
	}
	u := topInfo(t, base).UUIDs
	if r := vdfs(t, "set", top, "--parent-uuid", u.Image, "--parent-modification-uuid", u.Modification); r.code != 0 || r.stderr != "" {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
	for _, c := range vdtest.Cases(t) {
		if c.Archive == "demo.tar.gz" {
			holdsDisk(t, top, c.Layers[0].Capacity, c.Layers[0].SHA256)
		}
	}
}
