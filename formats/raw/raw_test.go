package raw

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

func TestConform(t *testing.T) {
	for name, n := range map[string]int{"sectors": 1 << 20, "odd": 1<<20 + 333, "byte": 1} {
		content := bytes.Repeat([]byte("plain disk "), n/11+1)[:n]
		sum := sha256.Sum256(content)
		t.Run(name, func(t *testing.T) {
			vdtest.Conform(t, "raw", vdtest.Golden{
				Files: map[string][]byte{"/d/disk.img": content}, Open: "/d/disk.img",
				Capacity: int64(n), SHA256: hex.EncodeToString(sum[:]),
			})
		})
	}
}

func TestEmpty(t *testing.T) {
	m := vdtest.NewMem()
	m.Put("/d/disk.raw", nil)
	if _, err := vdcore.OpenFS(m, "/d/disk.raw", vdcore.Options{Format: "raw"}); !errors.Is(err, vdcore.ErrCorrupt) {
		t.Errorf("an empty file: %v", err)
	}
}

// TestHoles: the holes of a sparse file are Zero, with the file system's own
// granularity, and the rest is data in its place.
func TestHoles(t *testing.T) {
	dir, err := storage.Resolve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "disk.raw")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const mib = 1 << 20
	if _, err := f.WriteAt(bytes.Repeat([]byte{1}, mib), 2*mib); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(8*mib + 100); err != nil {
		t.Fatal(err)
	}
	c, err := vdcore.Open(p, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Layers()[0].Image.Map(nil, 0, 8*mib+100)
	want := []vdcore.Extent{
		{Len: 2 * mib, Kind: vdcore.Zero}, {Off: 2 * mib, Len: mib, Kind: vdcore.Data, Pos: 2 * mib},
		{Off: 3 * mib, Len: 5*mib + 100, Kind: vdcore.Zero},
	}
	if err != nil || len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("map %+v, %v", got, err)
	}
}

// TestCutWhileOpen: what was cut off since the file was opened is lost, not a loop
// and not zeros.
func TestCutWhileOpen(t *testing.T) {
	dir, err := storage.Resolve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "disk.raw")
	for _, f := range []func() error{
		func() error { return os.WriteFile(p, []byte("data"), 0o600) },
		func() error { return os.Truncate(p, 8<<20) },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := vdcore.Open(p, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.Truncate(p, 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Top().Allocated(); err != nil {
		t.Error(err)
	}
	if n, err := c.Top().ReadAt(make([]byte, 4096), 4<<20); !errors.Is(err, vdcore.ErrLost) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
