package vmdk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"vdfs/vdcore"
)

// TestRefused: what must not be written says why, and what to do.
func TestRefused(t *testing.T) {
	flat := func(lines ...string) files {
		return files{"disk.vmdk": text("custom", lines...), "a.bin": stamp(0, 8192), "b.vmdk": cowd(8, 1, []int{free}), "s.vmdk": se(8, []int{free}), "h.vmdk": split()["disk-s001.vmdk"]}
	}
	sparse := func(changes ...change) files {
		b := small().bytes()
		for _, c := range changes {
			b = c(b)
		}
		return files{"disk.vmdk": b}
	}
	packed, footed := small(), small()
	packed.packed, footed.footer = true, true
	twice := func(line string) files {
		b := small()
		b.desc = append(b.desc, line+"\n"...)
		return files{"disk.vmdk": b.bytes()}
	}
	for _, c := range []struct {
		name string
		fs   files
		says string
	}{
		{"compressed", files{"disk.vmdk": packed.bytes()}, "compressed"},
		{"footer", files{"disk.vmdk": footed.bytes()}, "footer"},
		{"RDONLY", flat(`RDONLY 16 FLAT "a.bin" 0`), "RDONLY"},
		{"NOACCESS", flat(`RW 8 FLAT "a.bin" 0`, `NOACCESS 8 FLAT "a.bin" 8`), "NOACCESS"},
		{"ZERO", flat(`RW 8 FLAT "a.bin" 0`, `RW 8 ZERO`), "type ZERO"},
		{"COWD", flat(`RW 8 VMFSSPARSE "b.vmdk"`), "VMFSSPARSE"},
		{"COWD called SPARSE", flat(`RW 8 SPARSE "b.vmdk"`), "COWD"},
		{"seSparse", flat(`RW 8 SESPARSE "s.vmdk"`), "SESPARSE"},
		{"missing", flat(`RW 8 FLAT "none" 0`), "missing"},
		{"flat twice", flat(`RW 8 FLAT "a.bin" 0`, `RW 8 FLAT "a.bin" 7`), "share bytes"},
		{"sparse and flat", flat(`RW 64 SPARSE "h.vmdk"`, `RW 8 FLAT "h.vmdk" 7`), "share bytes"},
		{"version 3", sparse(put32(4, 3)), "version 3"},
		{"damage", sparse(put32(smallGT, 1<<30)), "damaged"},
		{"shared grains", sparse(put32(smallGT, 128)), "share a grain"},
		{"grains that overlap", sparse(put32(smallGT, 132)), "share a grain"},
		{"grain over a redundant table", files{"disk.vmdk": put32(39*512, 30)(grown(rand.New(rand.NewPCG(7, 7))))}, "over a table"},
		{"directory", sparse(put64(56, 1<<40)), "directories lies outside"},
		{"redundant directory", sparse(put64(48, 1<<40)), "directories lies outside"},
		{"redundant table in use", sparse(put32(smallGD, 1<<30)), "redundant copy"},
		{"redundant table outside", sparse(put32(smallRGD, 1<<30)), "redundant grain table"},
		{"redundant table over the directory", sparse(put32(smallRGD, 26)), "share bytes"},
		{"one table twice", sparse(put32(smallRGD, 27)), "share bytes"},
		{"capacity", sparse(put64(12, 4000)), "larger than"},
		{"CID twice", twice("cid=7f51f87"), "CID twice"},
		{"no CID", sparse(func(b []byte) []byte { return bytes.Replace(b, []byte("CID=7f51f87"), []byte("CID=7f51z87"), 1) }), "no hexadecimal"},
		{"odd UUID", twice(`ddb.uuid.modification="{2fb1f58c-2421-4dca-a3c7-027129786a3f}"`), "spelt"},
	} {
		fsys := c.fs.mem()
		w, err := openFor(fsys, "disk.vmdk")
		if err == nil {
			w.Close()
		}
		if !errors.Is(err, vdcore.ErrReadOnly) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), remedy(err)) {
			t.Errorf("%s: %v", c.name, err)
		}
		if n := fsys.OpenFiles(); n != 0 {
			t.Errorf("%s: %d files left open", c.name, n)
		}
		for name, b := range c.fs {
			if !bytes.Equal(fsys.Bytes("/vm/"+name), b) {
				t.Errorf("%s: %s was changed", c.name, name)
			}
		}
	}
}

// remedy is what a refusal has to name: what is damaged is mended, what is missing
// brought back, and all else written to through an overlay.
func remedy(err error) string {
	switch {
	case errors.Is(err, vdcore.ErrMissing):
		return "until that is back"
	case errors.Is(err, vdcore.ErrCorrupt):
		return "vdfs check --repair"
	}
	return "--overlay"
}

// TestTrackedChanges: an image with change tracking is written, with a warning.
func TestTrackedChanges(t *testing.T) {
	h := small()
	h.desc = append(h.desc, "changeTrackPath=\"disk-ctk.vmdk\"\n"...)
	w, err := openFor(files{"disk.vmdk": h.bytes()}.mem(), "disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if !strings.Contains(strings.Join(w.Info().Warnings, " "), "changeTrackPath") {
		t.Errorf("warnings %q", w.Info().Warnings)
	}
}
