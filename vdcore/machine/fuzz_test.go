package machine

import (
	"io"
	"strings"
	"testing"

	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// FuzzDescription reads any text as a description of each kind: it is refused, or what
// it says lies inside its bounds and its folder.
func FuzzDescription(f *testing.F) {
	const id = "41660b67-3206-4f92-ad2c-ec5d0dd36308"
	vbox := `<VirtualBox><Machine name="x" snapshotFolder="../.."><HardDisk uuid="{` + id + `}" location="../../etc/passwd"/>
	 <Snapshot name="s" timeStamp="2026-11-22T13:57:09Z"><AttachedDevice type="HardDisk" port="0"><Image uuid="{` + id + `}"/></AttachedDevice></Snapshot>
	 <AttachedDevice type="HardDisk" port="0"><Image uuid="{` + id + `}"/></AttachedDevice></Machine></VirtualBox>`
	vmx := "scsi0:0.fileName = \"../x.vmdk\"\nide0:0.fileName = \"disk.vmdk\"\n"
	vmsd := "snapshot0.uid = \"1\"\nsnapshot0.parent = \"1\"\nsnapshot0.numDisks = \"999999\"\nsnapshot0.disk0.fileName = \"/x|00.vmdk\"\n"
	kinds := []string{".vbox", ".vmx", ".ovf"}
	for i, text := range []string{vbox, vmx, ovfText} {
		f.Add(byte(i), text, vmsd)
	}
	f.Fuzz(func(t *testing.T, kind byte, text, snapshots string) {
		ext := kinds[int(kind)%len(kinds)]
		m := vdtest.NewMem()
		m.Put("/vm/a"+ext, []byte(text))
		m.Put("/vm/a.vmsd", []byte(snapshots))
		m.Put("/vm/disk.vmdk", nil)
		r := &reader{&Machine{File: "/vm/a" + ext}, m.Below("/vm"), "/vm"}
		if r.read() == nil {
			checkMachine(t, r.Machine)
		}
		if n := m.OpenFiles(); n != 0 {
			t.Errorf("%d files left open", n)
		}
	})
}

func checkMachine(t *testing.T, m *Machine) {
	names := map[string]bool{}
	for _, d := range m.Disks {
		if names[d.Name] {
			t.Errorf("two disks are called %q", d.Name)
		}
		names[d.Name] = true
		if d.Err == nil && !strings.HasPrefix(d.Path(), "/vm/") {
			t.Errorf("%q lies outside", d.Path())
		}
		if d.Capacity < 0 {
			t.Errorf("capacity %d", d.Capacity)
		}
	}
	for i, s := range m.Snapshots {
		if s.Parent >= i || s.Parent < -1 {
			t.Errorf("snapshot %d was made from %d", i, s.Parent)
		}
	}
}

// FuzzArchive opens any bytes as an archive and reads what is in it: never more than
// the archive holds, and what is cut off is an error.
func FuzzArchive(f *testing.F) {
	whole := packed(f, [2]string{"a.ovf", "<x/>"}, [2]string{"disk", "content"}, [2]string{"link@", "x"})
	f.Add(whole)
	f.Add(whole[:1500])
	f.Add([]byte("\x1f\x8b"))
	for at := 0; at < 512; at += 16 {
		bad := append([]byte(nil), whole...)
		bad[at+1024] ^= 0x41
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := vdtest.NewMem()
		m.Put("/a.ova", data)
		a, err := openArchive(m, "/a.ova")
		if err == nil {
			for _, name := range a.names() {
				file, err := a.Open("/a.ova/"+name, storage.ReadOnly)
				if err != nil {
					continue
				}
				st, _ := file.Stat()
				n, err := io.Copy(io.Discard, io.NewSectionReader(file, 0, st.Size))
				if err != nil || n != st.Size || n > int64(len(data)) {
					t.Errorf("%s: %d of %d bytes, %v", name, n, st.Size, err)
				}
				file.Close()
			}
		}
		if n := m.OpenFiles(); n != 0 {
			t.Errorf("%d files left open", n)
		}
	})
}

// FuzzManifest: what is understood has a digest of the right length.
func FuzzManifest(f *testing.F) {
	f.Add("SHA1(a)= " + strings.Repeat("0a", 20) + "\nSHA256 (b) = " + strings.Repeat("0b", 32))
	f.Add("SHA512(x)=00")
	f.Fuzz(func(t *testing.T, text string) {
		list, want, err := parseManifest(text)
		if err == nil && len(list) != len(want) {
			t.Error("digests without names")
		}
		for i := range list {
			if len(want[i]) != hashes[list[i].Algorithm]().Size() {
				t.Errorf("%s of %d bytes", list[i].Algorithm, len(want[i]))
			}
		}
	})
}
