package imgops_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

// TestShrinkForeign: a smaller disk drops its own pieces alone, whatever other files its
// descriptor names.
func TestShrinkForeign(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine.vmdk")
	for _, path := range []string{mine, filepath.Join(dir, "other.vmdk"), filepath.Join(dir, "mine-too.vmdk")} {
		if err := imgops.Create(t.Context(), path, imgops.CreateOptions{Capacity: 1 << 20, Variant: "flat"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(mine)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte("FLAT \"mine-flat.vmdk\" 0\n")
	more := append(bytes.Clone(line), "RW 8 FLAT \"other-flat.vmdk\" 100\nRW 8 FLAT \"mine-too-flat.vmdk\" 100\n"...)
	if err := os.WriteFile(mine, bytes.Replace(text, line, more, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := vdcore.Open(mine, vdcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := imgops.Resize(t.Context(), c, 1<<20, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine-flat.vmdk", "other-flat.vmdk", "mine-too-flat.vmdk"} {
		if st, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) || st.Size() != 1<<20 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
