package machine

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	_ "vdfs/formats/all"
	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// put makes a file system of texts, and the reader of one of them.
func put(files map[string]string, file string) *reader {
	m := vdtest.NewMem()
	for name, text := range files {
		m.Put("/vm/"+name, []byte(text))
	}
	return &reader{&Machine{Path: "/vm/" + file, File: "/vm/" + file}, m.Below("/vm"), "/vm"}
}

func TestKeys(t *testing.T) {
	k, err := parseKeys([]byte("#!/usr/bin/vmware\n.encoding = \"windows-1252\"\r\n" +
		"displayName = \"a|22b|7Cc|0Ad|zz|2\"\nDISPLAYNAME=\"second\"\nplain=no quotes\n# x = \"y\"\nno value\nu = \"\xe4\"\nempty = \"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"displayname": "a\"b|c\nd|zz|2", "plain": "no quotes", "u": "ä", "empty": "", "# x": "", "no value": "",
	} {
		if k[name] != want {
			t.Errorf("%s = %q, want %q", name, k[name], want)
		}
	}
}

// TestOrder: a snapshot comes after the one it was made from, whatever the numbers; a
// circle and a parent that is not there lose nobody.
func TestOrder(t *testing.T) {
	r := put(map[string]string{"a.vmx": "", "a.vmsd": `snapshot0.uid = "3"
snapshot0.parent = "2"
snapshot1.uid = "2"
snapshot1.parent = "1"
snapshot5.uid = "1"
snapshot6.uid = "8"
snapshot6.parent = "9"
snapshot7.uid = "9"
snapshot7.parent = "8"
snapshot8.uid = "5"
snapshot8.parent = "77"
`}, "a.vmx")
	if err := r.vmx(); err != nil {
		t.Fatal(err)
	}
	var parents []int
	for _, s := range r.Snapshots {
		parents = append(parents, s.Parent)
	}
	if got := fmt.Sprint(parents); got != "[-1 0 1 -1 -1 4]" {
		t.Errorf("parents %s", got)
	}
}

func TestTaken(t *testing.T) {
	for _, c := range []struct {
		high, low string
		want      time.Time
	}{
		{"389409", "3480231936", time.Date(2022, 12, 31, 16, 0, 0, 0, time.UTC)},
		{"389409", "-814735360", time.Date(2022, 12, 31, 16, 0, 0, 0, time.UTC)},
		{"0", "0", time.Time{}},
		{"", "1", time.Time{}},
		{"99999999999", "1", time.Time{}},
	} {
		if got := taken(c.high, c.low); !got.Equal(c.want) {
			t.Errorf("%s, %s: %v, want %v", c.high, c.low, got, c.want)
		}
	}
}

// TestDetached: a disk that only snapshots have is shown as the newest has it.
func TestDetached(t *testing.T) {
	r := put(map[string]string{"a.vmx": "", "old.vmdk": "", "old-000001.vmdk": "", "a.vmsd": `snapshot0.uid = "1"
snapshot0.numDisks = "1"
snapshot0.disk0.fileName = "old.vmdk"
snapshot0.disk0.node = "scsi0:3"
snapshot1.uid = "2"
snapshot1.parent = "1"
snapshot1.numDisks = "1"
snapshot1.disk0.fileName = "old-000001.vmdk"
snapshot1.disk0.node = "scsi0:3"
`}, "a.vmx")
	if err := r.vmx(); err != nil {
		t.Fatal(err)
	}
	d := r.Disk("old")
	if len(r.Disks) != 1 || d == nil || !d.Detached || d.image.path != "/vm/old-000001.vmdk" || len(d.states) != 2 {
		t.Errorf("%+v", d)
	}
	if _, err := d.Open(vdcore.Options{Write: true}); !errors.Is(err, vdcore.ErrReadOnly) {
		t.Errorf("opened for writing: %v", err)
	}
}

// TestEncrypted: what is encrypted is not shown as if it were the disk.
func TestEncrypted(t *testing.T) {
	const id = "41660b67-3206-4f92-ad2c-ec5d0dd36308"
	r := put(map[string]string{"disk.vdi": "", "a.vbox": `<VirtualBox><Machine name="x"><HardDisk uuid="{` + id + `}" location="disk.vdi">
	 <Property name="CRYPT/KeyStore" value="U0NORQ=="/></HardDisk><AttachedDevice type="HardDisk" port="0"><Image uuid="{` + id + `}"/></AttachedDevice></Machine></VirtualBox>`}, "a.vbox")
	if err := r.vbox(); err != nil || len(r.Disks) != 1 || !errors.Is(r.Disks[0].Err, vdcore.ErrUnsupported) {
		t.Errorf("%v, %+v", err, r.Disks)
	}
	r = put(map[string]string{"a.vmx": "displayName = \"x\"\nencryption.data = \"abc\"\n"}, "a.vmx")
	if err := r.vmx(); !errors.Is(err, vdcore.ErrUnsupported) {
		t.Error(err)
	}
}

const ovfText = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
 <References>
  <File ovf:id="f1" ovf:href="my%20disk.vmdk"/><File ovf:id="f2" ovf:href="b.vmdk" ovf:compression="gzip"/>
  <File ovf:id="f3" ovf:href="c.vmdk" ovf:chunkSize="7516192768"/>
 </References>
 <DiskSection>
  <Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="20" ovf:capacityAllocationUnits="byte * 2^30"/>
  <Disk ovf:diskId="d2" ovf:fileRef="f2" ovf:capacity="9223372036854775807" ovf:capacityAllocationUnits="byte * 2^30"/>
  <Disk ovf:diskId="d3" ovf:fileRef="f3" ovf:capacity="512"/>
  <Disk ovf:diskId="d4" ovf:capacity="512"/><Disk ovf:diskId="d5" ovf:fileRef="f9" ovf:capacity="512"/>
 </DiskSection>
 <VirtualSystemCollection><VirtualSystem ovf:id="vm"><Name>A name</Name><VirtualHardwareSection>
  <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ElementName>SCSI Controller 0</rasd:ElementName></Item>
  <Item><rasd:InstanceID>4</rasd:InstanceID><rasd:ElementName>Hard disk 1</rasd:ElementName><rasd:Parent>3</rasd:Parent>
   <rasd:AddressOnParent>7</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d1</rasd:HostResource></Item>
 </VirtualHardwareSection></VirtualSystem></VirtualSystemCollection>
</Envelope>`

func TestOVF(t *testing.T) {
	r := put(map[string]string{"a.ovf": ovfText, "my disk.vmdk": ""}, "a.ovf")
	if err := r.ovf(); err != nil {
		t.Fatal(err)
	}
	d := r.Disks
	if r.Name != "A name" || len(d) != 4 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "d4") {
		t.Fatalf("%+v", r.Machine)
	}
	if d[0].Err != nil || d[0].image.path != "/vm/my disk.vmdk" || d[0].Slot != "SCSI Controller 0 7" || d[0].Capacity != 20<<30 {
		t.Errorf("%+v", d[0])
	}
	for i, want := range map[int]error{1: vdcore.ErrUnsupported, 2: vdcore.ErrUnsupported, 3: vdcore.ErrMissing} {
		if !errors.Is(d[i].Err, want) {
			t.Errorf("%s: %v", d[i].Name, d[i].Err)
		}
	}
	if d[1].Capacity != 0 || d[2].Capacity != 512 {
		t.Errorf("capacities %d and %d", d[1].Capacity, d[2].Capacity)
	}
}

// packed is a tar archive of members, a name and a content each.
func packed(t testing.TB, members ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m[0], Size: int64(len(m[1])), Mode: 0o644}
		if strings.HasSuffix(m[0], "@") {
			h = &tar.Header{Name: strings.TrimSuffix(m[0], "@"), Typeflag: tar.TypeSymlink, Linkname: m[1]}
			m[1] = ""
		}
		err := w.WriteHeader(h)
		if _, werr := io.WriteString(w, m[1]); err != nil || werr != nil {
			t.Fatal(err, werr)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestArchive: a member is read where it lies, and nothing else under its name.
func TestArchive(t *testing.T) {
	m := vdtest.NewMem()
	m.Put("/a.ova", packed(t, [2]string{"a.ovf", "<x/>"}, [2]string{"./sub/disk", "content"}, [2]string{"../evil", "x"},
		[2]string{"/abs", "x"}, [2]string{"link@", "/etc/passwd"}, [2]string{"twice", "1"}, [2]string{"twice", "2"}))
	a, err := openArchive(m, "/a.ova")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(a.names()); got != "[a.ovf link sub/disk twice]" {
		t.Errorf("members %s", got)
	}
	f, err := a.Open("/a.ova/sub/disk", storage.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
	if err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	f.Close()
	for path, want := range map[string]error{
		"/a.ova/link": storage.ErrNotRegular, "/a.ova/twice": vdcore.ErrCorrupt, "/a.ova/../evil": storage.ErrOutside, "/etc/passwd": storage.ErrOutside,
	} {
		if _, err := a.Open(path, storage.ReadOnly); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := a.Open("/a.ova/a.ovf", storage.ReadWrite); !errors.Is(err, vdcore.ErrReadOnly) {
		t.Errorf("for writing: %v", err)
	}
	whole := m.Bytes("/a.ova")
	m.Put("/cut.ova", whole[:1024+512+512+3]) // inside sub/disk
	a, err = openArchive(m, "/cut.ova")
	if err == nil {
		_, err = a.Open("/cut.ova/sub/disk", storage.ReadOnly)
	}
	if !errors.Is(err, vdcore.ErrCorrupt) {
		t.Errorf("cut off: %v", err)
	}
	if n := m.OpenFiles(); n != 0 {
		t.Errorf("%d files left open", n)
	}
}

func TestManifest(t *testing.T) {
	sha1, sha256 := strings.Repeat("0a", 20), strings.Repeat("Fb", 32)
	list, want, err := parseManifest("SHA1(a (1).vmdk)= " + sha1 + "\r\n\nSHA256 (b) = " + sha256 + "\n")
	if err != nil || len(list) != 2 || list[0].Name != "a (1).vmdk" || list[1].Algorithm != "SHA256" || want[1][0] != 0xfb {
		t.Errorf("%+v, %x, %v", list, want, err)
	}
	for _, bad := range []string{"SHA1(a)= " + sha256, "MD5(a)= 00", "SHA256(a)=", "text", "SHA256(a)= 0"} {
		if _, _, err := parseManifest(bad); !errors.Is(err, vdcore.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
