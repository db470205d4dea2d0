package integration

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vdfs/vdcore/vdtest"
)

// No VMware here: these machines are put together from its files' public description,
// around chains that QEMU made and shows.

const vmxText = `.encoding = "windows-1252"
config.version = "8"
displayName = "B` + "\xfc" + `ro |22eins|22"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "top.vmdk"
SCSI0:1.fileName = "absent.vmdk"
scsi0:1.present = "FALSE"
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-image"
ide1:0.fileName = "cd.iso"
sata0:2.present = "TRUE"
sata0:2.fileName = "flat.vmdk"
`

// 389409 and 3480231936 are midnight of 1 January 2023 in Peking, in microseconds since
// 1970; the lower half of the second one is written as a negative number: a second later.
const vmsdText = `.encoding = "UTF-8"
snapshot.lastUID = "4"
snapshot.current = "3"
snapshot.numSnapshots = "3"
snapshot0.uid = "1"
snapshot0.displayName = "clean / new"
snapshot0.description = "first|0Aof all"
snapshot0.createTimeHigh = "389409"
snapshot0.createTimeLow = "3480231936"
snapshot0.numDisks = "1"
snapshot0.disk0.fileName = "base.vmdk"
snapshot0.disk0.node = "scsi0:0"
snapshot1.uid = "3"
snapshot1.parent = "1"
snapshot1.displayName = "before update"
snapshot1.createTimeHigh = "389409"
snapshot1.createTimeLow = "-813735360"
snapshot1.numDisks = "1"
snapshot1.disk0.fileName = "mid.vmdk"
snapshot1.disk0.node = "scsi0:0"
snapshot2.uid = "4"
snapshot2.parent = "1"
snapshot2.displayName = "dead end"
snapshot2.numDisks = "1"
snapshot2.disk0.fileName = "branch.vmdk"
snapshot2.disk0.node = "scsi0:0"
`

// vmwareMachine makes a folder with a machine of two disks, one with a branch, and
// returns it with what the disks must show.
func vmwareMachine(t *testing.T) (dir string, disks []machineDisk) {
	t.Helper()
	dir = unpack(t, "vmdk-qemu-chain.tar.gz")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("vm.vmx", vmxText)
	write("vm.vmsd", vmsdText)
	in := func(name string) string { return filepath.Join(dir, name) }
	tool(t, "qemu-img", "create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", "base.vmdk", in("branch.vmdk"))
	tool(t, "qemu-io", "-c", "write -P 0x5a 1M 64k", in("branch.vmdk"))
	tool(t, "qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", in("flat.vmdk"), "3M")
	tool(t, "qemu-io", "-c", "write -P 0xa5 1000k 300k", in("flat.vmdk"))
	qemu := func(name string) string {
		raw := filepath.Join(t.TempDir(), "raw")
		tool(t, "qemu-img", "convert", "-O", "raw", in(name), raw)
		return sum(t, raw)
	}
	list := fmt.Sprintf(`[{"name": "flat", "capacity": %d, "sha256": %q, "snapshots": []},
	 {"name": "top", "capacity": %d, "sha256": %q, "snapshots": [
	  {"file": "0-clean _ new.raw", "taken": "2023-01-01T00:00:00+08:00", "sha256": %q},
	  {"file": "1-before update.raw", "taken": "2023-01-01T00:00:01+08:00", "sha256": %q},
	  {"file": "1-dead end.raw", "sha256": %q}]}]`, 3<<20, qemu("flat.vmdk"), 16<<20, qemu("top.vmdk"), qemu("base.vmdk"), qemu("mid.vmdk"), qemu("branch.vmdk"))
	if err := json.Unmarshal([]byte(list), &disks); err != nil {
		t.Fatal(err)
	}
	return dir, disks
}

// tarBox packs a folder into a tar archive.
func tarBox(t *testing.T, dir, box string) {
	t.Helper()
	f, err := os.Create(box)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err = errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestVMware: a .vmx with its .vmsd, the folder, and an archive of it show the disks and
// snapshots; in the archive all images, flat ones too, are read in place by request.
func TestVMware(t *testing.T) {
	dir, disks := vmwareMachine(t)
	box := filepath.Join(t.TempDir(), "vm.box")
	tarBox(t, dir, box)
	for _, name := range []string{filepath.Join(dir, "vm.vmx"), dir, box} {
		mnt := mount(t, name)
		for _, d := range disks {
			d.check(t, filepath.Join(mnt, d.Name))
		}
		wantNames(t, mnt, []string{"flat", "top"})
		if name != box {
			continue
		}
		for _, d := range disks {
			if taken := pathTaken(t, filepath.Join(mnt, d.Name)); taken != "requests" {
				t.Errorf("%s is read by %s although it is part of an archive", d.Name, taken)
			}
		}
	}
	if r := vdfs(t, "mount", "--kernel-reads=require", box, t.TempDir()); r.code == 0 {
		t.Error("an archive was handed to the kernel")
	}
	if text := must(t, "info", box); !strings.Contains(text, `Büro "eins" (vmware)`) {
		t.Error(text)
	}
}

// TestVMwareInUse: a machine that runs or is suspended is not written to.
func TestVMwareInUse(t *testing.T) {
	dir, _ := vmwareMachine(t)
	vmx := filepath.Join(dir, "vm.vmx")
	lock := filepath.Join(dir, "flat.vmdk.lck")
	if err := os.Mkdir(lock, 0o755); err != nil {
		t.Fatal(err)
	}
	if r := vdfs(t, "mount", "--rw", vmx, t.TempDir()); r.code != 5 || !strings.Contains(r.stderr, "flat.vmdk.lck") {
		t.Errorf("running: exit %d, %s", r.code, r.stderr)
	}
	if err := errors.Join(os.Remove(lock), os.WriteFile(vmx, []byte(vmxText+"checkpoint.vmState = \"vm.vmss\"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if r := vdfs(t, "mount", "--rw", vmx, t.TempDir()); r.code != 5 || !strings.Contains(r.stderr, "suspended") {
		t.Errorf("suspended: exit %d, %s", r.code, r.stderr)
	}
	mount(t, vmx)
}

// TestBoxes: what cannot be read in place is refused with what to do, and that works.
func TestBoxes(t *testing.T) {
	dir := unpack(t, "vmdk-stream.tar.gz")
	ovf := `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
	 <References><File ovf:id="f" ovf:href="disk.vmdk"/></References><DiskSection><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="1"/></DiskSection></Envelope>`
	for name, text := range map[string]string{"box.ovf": ovf, "metadata.json": `{"provider":"virtualbox"}`, "Vagrantfile": "#"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	work := t.TempDir()
	plain, packed := filepath.Join(work, "plain.box"), filepath.Join(work, "it's packed.box")
	tarBox(t, dir, plain)
	tool(t, "tar", "-czf", packed, "-C", dir, ".")
	want := stream(t)
	for _, name := range []string{dir, plain} {
		mnt := mount(t, name)
		check(t, filepath.Join(mnt, "disk", "disk.raw"), want.Capacity, want.SHA256)
	}
	r := vdfs(t, "mount", packed, t.TempDir())
	_, advice, _ := strings.Cut(r.stderr, "unpack it: ")
	advice, _, ok := strings.Cut(advice, ", and name the folder")
	if r.code != 2 || !ok {
		t.Fatalf("exit %d, %s", r.code, r.stderr)
	}
	shell := command(t, func(c *exec.Cmd) { c.Dir = work }, "sh", "-c", advice)
	if shell.code != 0 {
		t.Fatalf("%s: %s", advice, shell.stderr)
	}
	must(t, "copy", filepath.Join(work, "it's packed"), filepath.Join(work, "out"))
	check(t, filepath.Join(work, "out"), want.Capacity, want.SHA256)
}

// TestBoxSparse: the bytes of a sparse member are not those of the file, so it is
// refused, whichever way tar writes it.
func TestBoxSparse(t *testing.T) {
	dir, _ := vmwareMachine(t)
	for _, format := range []string{"gnu", "posix"} {
		box := filepath.Join(t.TempDir(), "sparse.box")
		tool(t, "tar", "-cSf", box, "--format="+format, "-C", dir, ".")
		r := vdfs(t, "mount", "--disk", "flat", box, t.TempDir())
		if r.code != 2 || !strings.Contains(r.stderr, "sparse member") {
			t.Errorf("%s: exit %d, %s", format, r.code, r.stderr)
		}
	}
}

// stream is the golden streamOptimized image.
func stream(t *testing.T) machineDisk {
	t.Helper()
	for _, c := range vdtest.Cases(t) {
		if c.Archive == "vmdk-stream.tar.gz" {
			return machineDisk{Capacity: c.Layers[0].Capacity, SHA256: c.Layers[0].SHA256}
		}
	}
	t.Fatal("no golden stream")
	return machineDisk{}
}

// TestMachineRefused: what names no machine, or several, is refused with what to do.
func TestMachineRefused(t *testing.T) {
	dir, vbox := buero(t)
	ova, err := os.ReadFile(filepath.Join(dir, "v1.ova"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	href := func(s string) []byte {
		return []byte(`<Envelope><References><File id="f" href="` + s + `"/></References><DiskSection><Disk diskId="d" fileRef="f"/></DiskSection></Envelope>`)
	}
	text, err := os.ReadFile(vbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, path string
		code       int
		words      []string
	}{
		{"several", dir, 2, []string{"several machines: dir.ovf, v1.ova, v2.ova"}},
		{"none", t.TempDir(), 2, []string{"a folder or archive without a machine", ".vbox, .vmx, .ovf"}},
		{"an archive cut off", write("cut.ova", ova[:len(ova)/2]), 4, []string{"cut.ova"}},
		{"no archive", write("text.ova", []byte("text")), 2, []string{"text.ova", "tar archive"}},
		{"a registry cut off", write("cut.vbox", text[:3000]), 4, []string{"cut.vbox", "damaged"}},
		{"a disk that is not there", write("a.ovf", href("none.vmdk")), 3, []string{"none.vmdk", "missing"}},
		{"a disk elsewhere", write("b.ovf", href("../../../../../../etc/passwd")), 2, []string{"passwd", "outside"}},
		{"a disk elsewhere by its path", write("c.ovf", href("/etc/passwd")), 2, []string{"passwd", "outside"}},
		{"a disk on the net", write("d.ovf", href("http://host/x.vmdk")), 2, []string{"http://host/x.vmdk", "download"}},
		{"a definition of entities", write("e.ovf", append([]byte(`<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>`), href("&x;")...)), 2, []string{"document type"}},
		{"a medium elsewhere", write("f.vbox", []byte(strings.ReplaceAll(string(text), `location="System Disk.vdi"`, `location="/etc/passwd"`))), 3, []string{"missing"}},
	} {
		r := vdfs(t, "mount", c.path, t.TempDir())
		if r.code != c.code {
			t.Errorf("%s: exit %d, want %d: %s", c.what, r.code, c.code, r.stderr)
		}
		for _, w := range c.words {
			if !strings.Contains(r.stderr, w) {
				t.Errorf("%s: no %q in %s", c.what, w, r.stderr)
			}
		}
	}
}
