package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vdfs/vdcore"
)

// TestBounds: descriptions of machines with more than anybody has are refused before
// anything is done for each of their parts: these took hours.
func TestBounds(t *testing.T) {
	const many = 20000
	list := func(format string) string {
		var b strings.Builder
		for i := range many {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"disks.ovf": "<Envelope><References><File id=\"f\" href=\"d.vmdk\"/></References><DiskSection>" + list(`<Disk diskId="d%d" fileRef="f"/>`) +
			"</DiskSection><VirtualSystem><VirtualHardwareSection>" + list("<Item><HostResource>/disk/%d</HostResource></Item>") +
			"</VirtualHardwareSection></VirtualSystem></Envelope>",
		"slots.vmx": slots(100, 100),
		"attached.vbox": "<VirtualBox><Machine><StorageControllers><StorageController>" +
			list(`<AttachedDevice port="%d"><Image uuid="{11111111-1111-1111-1111-111111111111}"/></AttachedDevice>`) +
			"</StorageController></StorageControllers></Machine></VirtualBox>",
		"detached.vbox": "<VirtualBox><Machine><Snapshot><StorageControllers><StorageController>" +
			list(`<AttachedDevice><Image uuid="{11111111-1111-1111-1111-%012d}"/></AttachedDevice>`) +
			"</StorageController></StorageControllers></Snapshot></Machine></VirtualBox>",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path, nil); !errors.Is(err, vdcore.ErrUnsupported) {
				t.Errorf("%v", err)
			}
		})
	}
}

func slots(controllers, devices int) string {
	var b strings.Builder
	for c := range controllers {
		for d := range devices {
			fmt.Fprintf(&b, "scsi%d:%d.fileName = \"x.vmdk\"\n", c, d)
		}
	}
	return b.String()
}

// TestNested: an archive in an archive is not opened, and not taken for what describes
// the machine.
func TestNested(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ova")
	for want, members := range map[error][][2]string{
		vdcore.ErrFormat: {{"b.ova", "x"}},
		nil:              {{"b.box", "x"}, {"a.ovf", "<Envelope/>"}},
	} {
		if err := os.WriteFile(path, packed(t, members...), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path, nil); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// TestLongManifest: each line is a file to open and to read.
func TestLongManifest(t *testing.T) {
	line := "SHA1(a) = " + strings.Repeat("0", 40) + "\n"
	for n, want := range map[int]error{maxMembers: nil, maxMembers + 1: vdcore.ErrUnsupported} {
		if _, _, err := parseManifest(strings.Repeat(line, n)); !errors.Is(err, want) {
			t.Errorf("%d lines: %v", n, err)
		}
	}
}

// TestManyBranches: of snapshots whose images are not there, so many are tried.
func TestManyBranches(t *testing.T) {
	dir := t.TempDir()
	var states strings.Builder
	for i := range 2 * maxBranches {
		fmt.Fprintf(&states, "snapshot%d.uid = \"%d\"\nsnapshot%d.numDisks = \"1\"\nsnapshot%d.disk0.fileName = \"gone-%d.vmdk\"\nsnapshot%d.disk0.node = \"scsi0:0\"\n", i, i+1, i, i, i, i)
	}
	for name, text := range map[string]string{
		"a.vmx": "scsi0:0.fileName = \"a.vmdk\"\n", "a.vmsd": states.String(), "flat.vmdk": strings.Repeat("x", 1024),
		"a.vmdk": "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 2 FLAT \"flat.vmdk\" 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Load(filepath.Join(dir, "a.vmx"), nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Disks[0].Open(vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if branches, warnings := m.Disks[0].Branches(c, vdcore.Options{}); len(branches) != 0 || len(warnings) != maxBranches+1 {
		t.Errorf("%d branches, %d warnings", len(branches), len(warnings))
	}
}
