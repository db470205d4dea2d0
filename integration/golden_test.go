package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vdfs/vdcore/vdtest"
)

// stem is the name a chain has below the mountpoint.
func stem(path string) string {
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
}

// unpack extracts a golden chain and returns its folder.
func unpack(t testing.TB, archive string) string {
	t.Helper()
	dir := t.TempDir()
	vdtest.Unpack(t, archive, dir)
	return dir
}

// demoChain unpacks the bundled four-layer chain and returns its folder.
func demoChain(t testing.TB) string { return unpack(t, "demo.tar.gz") }

// TestGoldenMount: disk.raw, every snapshot and `copy` are byte for byte what the
// tools that made the image show, and opening a lower layer is opening that state.
func TestGoldenMount(t *testing.T) {
	for _, c := range vdtest.Cases(t) {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			dir := unpack(t, c.Archive)
			top := filepath.Join(dir, c.Layers[0].File)
			mnt := mount(t, top)
			disk := filepath.Join(mnt, stem(top))
			check(t, filepath.Join(disk, "disk.raw"), c.Layers[0].Capacity, c.Layers[0].SHA256)
			lower := c.Layers[1:]
			if names := lowerStates(t, disk); len(names) != len(lower) {
				t.Errorf("%q, want %d snapshots", names, len(lower))
			}
			for i, l := range lower {
				n := len(lower) - 1 - i
				check(t, filepath.Join(disk, "snapshots", fmt.Sprintf("%d-%s.raw", n, stem(l.File))), l.Capacity, l.SHA256)
			}
			must(t, "check", top)
			out := filepath.Join(t.TempDir(), "out.raw")
			must(t, "copy", top, out)
			check(t, out, c.Layers[0].Capacity, c.Layers[0].SHA256)
		})
	}
}

// lowerStates are the files of the lower states of a disk, without those of partitions.
func lowerStates(t *testing.T, folder string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(folder, "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func check(t *testing.T, path string, capacity int64, hash string) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Error(err)
		return
	}
	if st.Size() != capacity {
		t.Errorf("%s: %d bytes, want %d", path, st.Size(), capacity)
	}
	if got := sum(t, path); got != hash {
		t.Errorf("%s: content %s, want %s", path, got, hash)
	}
}

// TestCopyStdout: the stream is the disk.
func TestCopyStdout(t *testing.T) {
	dir := unpack(t, "vmdk-stream.tar.gz")
	r := vdfs(t, "copy", filepath.Join(dir, "disk.vmdk"), "-")
	out := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(out, []byte(r.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range vdtest.Cases(t) {
		if c.Archive == "vmdk-stream.tar.gz" {
			check(t, out, c.Layers[0].Capacity, c.Layers[0].SHA256)
		}
	}
}

// TestMapAgainstQemu: what qemu-img calls data, and where it says that lies, is
// what `map --json` says, for images qemu reads rightly.
func TestMapAgainstQemu(t *testing.T) {
	for archive, file := range map[string]string{
		"vmdk-qemu-chain.tar.gz": "top.vmdk", "vmdk-qemu-zeroed.tar.gz": "disk.vmdk", "vdi-qemu.tar.gz": "disk.vdi",
		"vmdk-qemu-2gsparse.tar.gz": "disk.vmdk", "vmdk-cowd.tar.gz": "disk.vmdk", "vmdk-qemu-stream.tar.gz": "disk.vmdk",
	} {
		t.Run(archive, func(t *testing.T) {
			img := filepath.Join(unpack(t, archive), file)
			var ours struct{ Extents []mapRow }
			parse(t, must(t, "map", "--json", img), &ours)
			var theirs []mapRow
			parse(t, tool(t, "qemu-img", "map", "--output=json", img), &theirs)
			a, b := dataOnly(ours.Extents), dataOnly(theirs)
			if len(a) == 0 || fmt.Sprint(a) != fmt.Sprint(b) {
				t.Errorf("vdfs %v\nqemu %v", a, b)
			}
		})
	}
}

type mapRow struct {
	Start, Length int64
	Depth         int
	Data, Zero    bool
	Compressed    bool
	Offset        int64
}

// dataOnly keeps the data ranges, joined: tools differ in how they cut them.
func dataOnly(rows []mapRow) []mapRow {
	var out []mapRow
	for _, r := range rows {
		if !r.Data {
			continue
		}
		packed := r.Compressed
		r.Compressed = false // older qemu-img does not say
		if n := len(out); n > 0 {
			l := &out[n-1]
			if l.Start+l.Length == r.Start && l.Depth == r.Depth && (packed || l.Offset+l.Length == r.Offset) {
				l.Length += r.Length
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

func parse(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
}
