package vbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

const (
	base    = "41660b67-3206-4f92-ad2c-ec5d0dd36308"
	first   = "27be7c47-da50-4bb8-b4f5-0388973e3032"
	current = "7637935d-6403-476c-84a3-ae2950d1a47c"
)

// text is a file of VirtualBox 7.2, shortened.
const text = `<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux">
  <Machine uuid="{11111111-2222-4333-8444-555555555555}" name="Small VM" currentSnapshot="{33414052-9194-416e-b9b7-045eb08dd435}" snapshotFolder="Snapshots">
    <MediaRegistry><HardDisks>
      <HardDisk uuid="{` + base + `}" location="Small VM.vdi" format="VDI" type="Normal">
        <HardDisk uuid="{` + first + `}" location="Snapshots/{` + first + `}.vdi" format="VDI">
          <HardDisk uuid="{` + current + `}" location="Snapshots/{` + current + `}.vdi" format="VDI"/>
        </HardDisk>
      </HardDisk>
    </HardDisks></MediaRegistry>
    <Description>of the machine</Description>
    <Snapshot uuid="{d1205af1-e3cd-46bb-825f-133449c74f56}" name="first &amp; last" timeStamp="2026-11-22T13:57:09Z">
      <Description>before
the writes</Description>
      <Hardware><StorageControllers><StorageController name="SATA" type="AHCI">
        <AttachedDevice type="HardDisk" port="0" device="1"><Image uuid="{` + base + `}"/></AttachedDevice>
        <AttachedDevice type="DVD" port="1" device="0"><Image uuid="{00000000-0000-4000-8000-000000000001}"/></AttachedDevice>
      </StorageController></StorageControllers></Hardware>
      <Snapshots>
        <Snapshot uuid="{33414052-9194-416e-b9b7-045eb08dd435}" name="second" timeStamp="whenever">
          <StorageControllers><StorageController name="SATA" type="AHCI">
            <AttachedDevice type="HardDisk" port="0" device="1"><Image uuid="{` + first + `}"/></AttachedDevice>
          </StorageController></StorageControllers>
        </Snapshot>
      </Snapshots>
    </Snapshot>
    <Hardware><StorageControllers><StorageController name="SATA" type="AHCI">
      <AttachedDevice type="HardDisk" port="0" device="1"><Image uuid="{` + current + `}"/></AttachedDevice>
    </StorageController></StorageControllers></Hardware>
  </Machine>
</VirtualBox>`

func TestParse(t *testing.T) {
	f, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if f.Name != "Small VM" || f.SnapshotFolder != "Snapshots" || f.Saved || f.CurrentSnapshot != f.Snapshots[1].UUID {
		t.Errorf("%+v", f)
	}
	want := []Attachment{{"SATA", "0", "1", uuid.MustParse(current)}}
	if fmt.Sprint(f.Attached) != fmt.Sprint(want) {
		t.Errorf("attached %v", f.Attached)
	}
	s := f.Snapshots
	if len(s) != 2 || s[0].Name != "first & last" || s[0].Description != "before\nthe writes" || s[0].Parent != -1 || s[1].Parent != 0 {
		t.Errorf("snapshots %+v", s)
	}
	if !s[0].Taken.Equal(time.Date(2026, 11, 22, 13, 57, 9, 0, time.UTC)) || !s[1].Taken.IsZero() {
		t.Errorf("taken %v and %v", s[0].Taken, s[1].Taken)
	}
	if len(s[0].Attached) != 1 || s[0].Attached[0].Image.String() != base || s[1].Attached[0].Image.String() != first {
		t.Errorf("attached %v and %v", s[0].Attached, s[1].Attached)
	}
	if f.Root(uuid.MustParse(current)).String() != base || f.Child(uuid.MustParse(base), uuid.Nil).String() != first {
		t.Error("the media are not parent and child")
	}
}

// TestCut: what came before the end of a file that was cut off is known.
func TestCut(t *testing.T) {
	f, err := Parse(strings.NewReader(text[:strings.Index(text, "<Description>")]))
	if err == nil || len(f.Media) != 3 {
		t.Errorf("%v, %d media", err, len(f.Media))
	}
	f, err = Parse(strings.NewReader(`<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + text))
	if !errors.Is(err, ErrDTD) || len(f.Media) != 0 {
		t.Errorf("%v, %d media", err, len(f.Media))
	}
}

// FuzzParse: whatever the text, indices lie inside, and circles end.
func FuzzParse(f *testing.F) {
	f.Add(text)
	f.Add(strings.ReplaceAll(text, current, base))
	f.Add(`<Snapshot><Snapshot><Image uuid="` + base + `"/></Snapshot></Snapshot><HardDisk uuid="` + base + `" location="x"/>`)
	f.Fuzz(func(t *testing.T, text string) {
		v, _ := Parse(strings.NewReader(text))
		for i, s := range v.Snapshots {
			if s.Parent >= i {
				t.Errorf("snapshot %d was made from %d", i, s.Parent)
			}
		}
		for id := range v.Media {
			v.Root(id)
			v.Child(id, id)
		}
	})
}

// TestRoot: the base of every medium of a chain as long as a file can have, each looked
// at once; a circle has an end.
func TestRoot(t *testing.T) {
	const depth = 100000
	id := func(n int) (u uuid.UUID) {
		binary.BigEndian.PutUint32(u[:], uint32(n))
		return u
	}
	f := &File{Media: map[uuid.UUID]Medium{}}
	for n := range depth {
		f.Media[id(n+1)] = Medium{Parent: id(n)} // that of the first is uuid.Nil
	}
	for n := depth; n > 0; n-- {
		if root := f.Root(id(n)); root != id(1) {
			t.Fatalf("%d: %s", n, root)
		}
	}
	circle := &File{Media: map[uuid.UUID]Medium{id(1): {Parent: id(2)}, id(2): {Parent: id(1)}}}
	if circle.Root(id(1)) != circle.Root(id(2)) {
		t.Error("a circle has two bases")
	}
}

// TestPieces: a description in as many pieces as fit in a file is put together at once.
func TestPieces(t *testing.T) {
	const many = 300000
	f, err := Parse(strings.NewReader(`<Snapshot><Description>` + strings.Repeat("x<!-- -->", many) + `</Description></Snapshot>`))
	if err != nil || len(f.Snapshots) != 1 || f.Snapshots[0].Description != strings.Repeat("x", many) {
		t.Errorf("%v, %d snapshots", err, len(f.Snapshots))
	}
}
