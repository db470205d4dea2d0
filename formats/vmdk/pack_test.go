package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/vdtest"
)

// TestStream: grains in three tables of which one stays empty, some that do not pack,
// one the disk ends in: the markers are in order, and what was written reads the same,
// here and in QEMU.
func TestStream(t *testing.T) {
	const grain = newGrain * sector
	flat := make([]byte, 2*newEntries*grain+5*grain+3*sector)
	r := rand.NewChaCha8([32]byte{7})
	grains := []int64{0, 1, newEntries - 1, 2 * newEntries, 2*newEntries + 5}
	for i, n := range grains {
		unit := flat[n*grain : min((n+1)*grain, int64(len(flat)))]
		if i%2 == 0 {
			r.Read(unit)
		} else {
			copy(unit, bytes.Repeat([]byte("packs well "), 2000))
		}
	}
	var out bytes.Buffer
	s, err := newStream(&out, vdcore.CreateArgs{Path: "disk.vmdk", Capacity: int64(len(flat)), UUID: uuid.New(), Comment: "größer"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range grains {
		record, err := s.Pack(nil, flat[n*grain:min((n+1)*grain, int64(len(flat)))], n*grain)
		if err = errors.Join(err, s.Append(record, n*grain)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Append(nil, 0); err == nil {
		t.Error("it goes back to a table that is written")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkMarkers(t, out.Bytes(), []uint32{0, 0, 0, markerTable, 0, 0, markerTable, markerDirectory, markerFooter})

	m := vdtest.NewMem()
	m.Put("/d/disk.vmdk", out.Bytes())
	c, err := vdcore.OpenFS(m, "/d/disk.vmdk", vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, len(flat))
	if _, err := c.Top().ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, flat) {
		t.Errorf("it reads as something else (%v)", err)
	}
	if info := c.Top().Layer().Info(); info.Variant != streamKind || info.Comment != "größer" || info.Capacity != int64(len(flat)) {
		t.Errorf("%+v", info)
	}
	compareQEMU(t, out.Bytes(), flat)
}

// checkMarkers walks a stream from its first record to its end; 0 stands for a grain.
func checkMarkers(t *testing.T, b []byte, want []uint32) {
	t.Helper()
	pos := newGrain * sector
	for i := 0; ; i++ {
		value, size, kind := binary.LittleEndian.Uint64(b[pos:]), binary.LittleEndian.Uint32(b[pos+8:]), binary.LittleEndian.Uint32(b[pos+12:])
		switch {
		case i == len(want):
			if value != 0 || size != 0 || kind != 0 || pos+sector != len(b) {
				t.Errorf("at %d of %d no end: %d %d %d", pos, len(b), value, size, kind)
			}
			return
		case size != 0 && want[i] == 0:
			pos += (markerSize + int(size) + sector - 1) / sector * sector
		case size == 0 && kind == want[i] && kind != 0:
			pos += sector * (1 + int(value))
		default:
			t.Fatalf("record %d at %d is of kind %d, want %d", i, pos, kind, want[i])
		}
	}
}

func compareQEMU(t *testing.T, image, flat []byte) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Log("qemu-img is not installed: not compared with it")
		return
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "disk.vmdk"), filepath.Join(dir, "disk.raw")
	if err := errors.Join(os.WriteFile(a, image, 0o600), os.WriteFile(b, flat, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"compare", "-f", "vmdk", "-F", "raw", a, b}, {"check", "-f", "vmdk", a}} {
		if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
			t.Errorf("qemu-img %v: %v: %s", args, err, out)
		}
	}
}

// TestStreamRefuses: what is no grain, and a parent.
func TestStreamRefuses(t *testing.T) {
	args := vdcore.CreateArgs{Path: "disk.vmdk", Capacity: 1 << 20, UUID: uuid.New()}
	s, err := newStream(io.Discard, args)
	if err != nil {
		t.Fatal(err)
	}
	for off, n := range map[int64]int{0: newGrain*sector + 1, 512: 512} {
		if _, err := s.Pack(nil, make([]byte, n), off); err == nil {
			t.Errorf("%d bytes at %d are packed", n, off)
		}
	}
	if err := s.Append(make([]byte, sector), 1<<30); err == nil {
		t.Error("a grain behind the end is written")
	}
	args.Parent = &vdcore.CreateParent{Info: &vdcore.Info{}}
	if _, err := newStream(io.Discard, args); !errors.Is(err, vdcore.ErrUnsupported) {
		t.Error(err)
	}
}
