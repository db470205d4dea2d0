package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"vdfs/vdcore/vdtest"
)

// deepChain writes n differencing VDIs, each with one block of its own, and
// returns the top and the content.
func deepChain(t testing.TB, n int) (top string, flat []byte) {
	t.Helper()
	const block = 1 << 20
	r := rand.New(rand.NewPCG(5, 5))
	dir := t.TempDir()
	capacity := int64(64 << 20)
	flat = make([]byte, capacity)
	var parent *vdtest.VDI
	for i := range n {
		v := &vdtest.VDI{Capacity: capacity, BlockSize: block, ID: vdtest.RandomUUID(r), Mod: vdtest.RandomUUID(r)}
		if parent != nil {
			v.Parent, v.ParentMod = parent.ID, parent.Mod
		}
		v.Map = make([]uint32, capacity/block)
		for k := range v.Map {
			v.Map[k] = vdtest.VDIFree
		}
		data := make([]byte, block)
		for k := 0; k < block; k += 8 {
			binary.LittleEndian.PutUint64(data[k:], r.Uint64())
		}
		v.Map[i%len(v.Map)], v.Slots = 0, [][]byte{data}
		copy(flat[i%len(v.Map)*block:], data)
		top = filepath.Join(dir, fmt.Sprintf("%03d.vdi", i))
		if err := os.WriteFile(top, v.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		parent = v
	}
	return top, flat
}

// TestDeep: 500 layers open, read right, and hold few descriptors: at most 128
// beyond the layers whose data were read.
func TestDeep(t *testing.T) {
	top, flat := deepChain(t, 500)
	mnt := mount(t, top)
	pid := daemon(t, mnt)
	before := descriptorsOf(t, pid)
	if before > 160 { // 128, and what the daemon itself needs
		t.Errorf("%d descriptors before anything is read", before)
	}
	disk := filepath.Join(mnt, stem(top), "disk.raw")
	got, err := os.ReadFile(disk)
	if err != nil || !bytes.Equal(got, flat) {
		t.Errorf("content differs (%v)", err)
	}
	if after := descriptorsOf(t, pid); after > before+64+64 { // 64 layers answer
		t.Errorf("%d descriptors after reading 64 layers", after)
	}
	snaps, err := os.ReadDir(filepath.Join(mnt, stem(top), "snapshots"))
	if err != nil || len(snaps) != 2*499 {
		t.Errorf("%d snapshots, %v", len(snaps), err)
	}
}

func descriptorsOf(t *testing.T, pid int) int {
	t.Helper()
	d, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// TestHuge: empty disks of 2 TiB mount within 64 MiB of memory, show their holes,
// and map as one range.
func TestHuge(t *testing.T) {
	needTool(t, "qemu-img")
	for _, format := range []string{"vdi", "vmdk"} {
		t.Run(format, func(t *testing.T) {
			img := filepath.Join(t.TempDir(), "huge."+format)
			tool(t, "qemu-img", "create", "-q", "-f", format, img, "2T")
			mnt := mount(t, img)
			st, err := os.Stat(filepath.Join(mnt, "huge", "disk.raw"))
			if err != nil || st.Size() != 2<<40 || st.Sys().(*syscall.Stat_t).Blocks != 0 {
				t.Errorf("%+v, %v", st, err)
			}
			if peak := peakKiB(t, daemon(t, mnt)); peak > 64<<10 {
				t.Errorf("the daemon took %d KiB", peak)
			}
			lines := strings.Split(strings.TrimSpace(must(t, "map", img)), "\n")
			if len(lines) != 2 || !strings.Contains(lines[1], "2199023255552  zero") {
				t.Errorf("map: %q", lines)
			}
		})
	}
}

func peakKiB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
