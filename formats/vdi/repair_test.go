package vdi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
	"vdfs/vdcore/storage/faultfs"
	"vdfs/vdcore/vdtest"
)

// wreck is an image with everything wrong that is mended, the content its disk should
// show, nil for blocks that are lost, and how much of the torn block there is.
func wreck() (image []byte, want [][]byte, torn int) {
	v := small()
	v.BlockSize, v.Capacity = testBlock, 10*testBlock-512
	v.Map, v.Slots = nil, nil
	fill := func(k int) []byte { return bytes.Repeat([]byte{byte(k + 1)}, testBlock) }
	slots := []uint32{4, 1 << 20, 0, vdtest.VDIZero, 6, 0, vdtest.VDIFree, 7, 1, vdtest.VDIFree}
	v.Slots = make([][]byte, 8)
	for block, slot := range slots {
		v.Map = append(v.Map, slot)
		want = append(want, nil)
		if int(slot) < len(v.Slots) && v.Slots[slot] == nil {
			v.Slots[slot] = fill(block)
			want[block] = v.Slots[slot]
		}
	}
	v.Map = append(v.Map, vdtest.VDIFree) // one entry too many
	for k, s := range v.Slots {
		if s == nil {
			v.Slots[k] = bytes.Repeat([]byte{0xEE}, testBlock) // a leak
		}
	}
	b := v.Bytes()
	le := binary.LittleEndian
	le.PutUint64(b[368:], uint64(v.Capacity)+100) // no whole sector
	le.PutUint32(b[388:], 2)                      // too few
	clear(b[408:424])                             // no modification UUID
	for k, x := range []uint32{0, 297110240, 21903, 4096} {
		le.PutUint32(b[456+4*k:], x)
	}
	torn = 70000
	return b[:len(b)-testBlock+torn], want, torn
}

func repairIn(fsys storage.FS, path string) ([]vdcore.Mend, []vdcore.Finding, error) {
	var mends []vdcore.Mend
	_, kept, err := imgops.RepairFS(context.Background(), fsys, path, imgops.RepairOptions{Announce: func(r *vdcore.Repair) error {
		mends = append(mends, r.Plan.Mends...)
		return nil
	}}, nil)
	return mends, kept, err
}

// looksRepaired reads the disk block by block: what was intact is there, what was not
// is zeros, or, before the repair is done, not to be read, or another block's.
func looksRepaired(fsys storage.FS, want [][]byte, torn int, done bool) error {
	c, err := vdcore.OpenFS(fsys, "/a.vdi", vdcore.Options{AllowIncomplete: !done})
	if err != nil {
		return err
	}
	defer c.Close()
	for k, content := range want {
		got := make([]byte, min(testBlock, c.Top().Capacity()-int64(k)*testBlock))
		if content != nil && k == 7 { // the torn one
			content = append(bytes.Clone(content[:torn]), make([]byte, testBlock-torn)...)
			if !done {
				got = got[:torn]
			}
		}
		if content == nil {
			content = make([]byte, testBlock)
		}
		_, err := c.Top().ReadAt(got, int64(k)*testBlock)
		bad := k == 1 || k == 5
		switch {
		case err != nil && err != io.EOF && !(bad && !done):
			return fmt.Errorf("block %d: %w", k, err)
		case !bytes.Equal(got, content[:len(got)]) && !(bad && !done):
			return fmt.Errorf("block %d reads as %x…", k, got[:4])
		}
	}
	if !done {
		return nil
	}
	found, err := imgops.Check(c)
	if err == nil && len(found[0].Findings) > 0 {
		err = fmt.Errorf("found %+v", found[0].Findings)
	}
	return err
}

// TestRepair mends everything at once, says so, and saves what it replaced.
func TestRepair(t *testing.T) {
	b, want, torn := wreck()
	m := crashfs.New()
	m.Put("/a.vdi", b)
	mends, kept, err := repairIn(m, "/a.vdi")
	if err != nil || len(kept) > 0 {
		t.Fatal(err, kept)
	}
	lost := map[string][]vdcore.Range{}
	for _, x := range mends {
		lost[x.Code] = x.Lost
	}
	for _, code := range []string{"slot-outside", "slot-torn", "shared-slot", "leaked-slot", "block-count", "disk-size", "block-excess", "geometry", "lchs-sector-size", "modification-uuid"} {
		if _, ok := lost[code]; !ok {
			t.Errorf("no %s in %v", code, slices.Sorted(maps.Keys(lost)))
		}
	}
	for code, at := range map[string]vdcore.Range{
		"slot-outside": {Off: testBlock, Len: testBlock}, "shared-slot": {Off: 5 * testBlock, Len: testBlock},
		"slot-torn": {Off: 7*testBlock + int64(torn), Len: testBlock - int64(torn)},
	} {
		if !slices.Equal(lost[code], []vdcore.Range{at}) {
			t.Errorf("%s loses %v, want %v", code, lost[code], at)
		}
	}
	if err := looksRepaired(m, want, torn, true); err != nil {
		t.Error(err)
	}
	if got := vdtest.Restore(t, m.Bytes("/a.vdi.vdfs-backup-1"), map[string][]byte{"a.vdi": m.Bytes("/a.vdi")}); !bytes.Equal(got["a.vdi"], b) {
		t.Error("the backup does not bring back the image as it was")
	}
	if mends, _, err := repairIn(m, "/a.vdi"); err != nil || len(mends) > 0 {
		t.Errorf("a second repair: %v, %v", mends, err)
	}
}

// TestRepairDry changes nothing, and a sound image is left alone.
func TestRepairDry(t *testing.T) {
	b, _, _ := wreck()
	m := crashfs.New()
	m.Put("/a.vdi", b)
	m.Put("/b.vdi", small().Bytes())
	n := 0
	_, _, err := imgops.RepairFS(t.Context(), m, "/a.vdi", imgops.RepairOptions{DryRun: true, Announce: func(r *vdcore.Repair) error {
		n = len(r.Plan.Mends)
		return nil
	}}, nil)
	if err != nil || n == 0 || m.Ops() != 0 {
		t.Errorf("%d mends, %d operations, %v", n, m.Ops(), err)
	}
	if mends, kept, err := repairIn(m, "/b.vdi"); err != nil || len(mends)+len(kept) > 0 || m.Ops() != 0 {
		t.Errorf("a sound image: %v, %v, %v", mends, kept, err)
	}
}

// TestRepairFixed makes the file of a fixed image whole again, and keeps all entries.
func TestRepairFixed(t *testing.T) {
	v := small()
	v.Map, v.Slots = []uint32{0, 1, 2, 3}, [][]byte{{1}, {2}, {3}, {4}}
	b := v.Bytes()
	binary.LittleEndian.PutUint32(b[76:], typeFixed)
	whole := len(b)
	m := crashfs.New()
	m.Put("/a.vdi", b[:whole-3*int(v.BlockSize)/2])
	mends, kept, err := repairIn(m, "/a.vdi")
	if err != nil || len(kept) > 0 || len(mends) != 1 || mends[0].Code != "slot-torn" || mends[0].Bytes != 3*v.BlockSize/2 {
		t.Fatal(mends, kept, err)
	}
	if got := m.Bytes("/a.vdi"); len(got) != whole || !bytes.Equal(got[:whole-2*int(v.BlockSize)], b[:whole-2*int(v.BlockSize)]) {
		t.Errorf("the file has %d bytes, want %d", len(got), whole)
	}
}

// TestRepairKept: what cannot be mended is said, and nothing is changed.
func TestRepairKept(t *testing.T) {
	v := small()
	v.Map[0] = 77
	b := v.Bytes()
	copy(b[514:], bytes.Clone(b[512:528]))
	binary.LittleEndian.PutUint32(b[340:], 514)
	m := crashfs.New()
	m.Put("/a.vdi", b)
	mends, kept, err := repairIn(m, "/a.vdi")
	if err != nil || len(kept) != 2 || kept[0].Code != "map-misaligned" || kept[1].Code != "slot-outside" || len(mends) > 0 {
		t.Errorf("%v, %v, %v", mends, kept, err)
	}
}

// TestCrashRepair lets the power go at operations of a repair: at all of them with
// VDFS_CRASH_SEEDS.
func TestCrashRepair(t *testing.T) {
	b, want, torn := wreck()
	opt := vdtest.CrashOptions{MaxCuts: 8, Survivors: 2}
	seeds, _ := strconv.Atoi(os.Getenv("VDFS_CRASH_SEEDS"))
	if seeds > 0 {
		opt = vdtest.CrashOptions{}
	}
	for opt.Seed = range uint64(max(seeds, 1)) {
		vdtest.CrashOperation(t, vdtest.Operation{
			Name: "repair a VDI", Files: map[string][]byte{"/a.vdi": b},
			Do: func(fsys storage.FS) error {
				_, kept, err := repairIn(fsys, "/a.vdi")
				if err == nil && len(kept) > 0 {
					err = fmt.Errorf("kept %v", kept)
				}
				return err
			},
			Look: func(fsys storage.FS, done bool) error { return looksRepaired(fsys, want, torn, done) },
		}, opt)
	}
}

// TestRepairFaults fails every other change once, as a full disk does: the image is no worse,
// no half of a backup is left behind, and the next repair ends well.
func TestRepairFaults(t *testing.T) {
	b, want, torn := wreck()
	for k := 1; ; k += 2 {
		m := crashfs.New()
		m.Put("/a.vdi", b)
		f := faultfs.New(m, faultfs.Rule{At: k, Err: syscall.ENOSPC, Short: true})
		_, _, err := repairIn(f, "/a.vdi")
		if len(f.Failed()) == 0 {
			if err != nil || k < 20 {
				t.Fatal(k, err)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) || m.OpenFiles() > 0 {
			t.Fatalf("operation %d: %v, %d files left open", k, err, m.OpenFiles())
		}
		for _, path := range m.Paths() {
			if path != "/a.vdi" && !bytes.HasPrefix(m.Bytes(path), []byte("vdfs backup 1\n")) {
				t.Errorf("operation %d: %s is no backup", k, path)
			}
		}
		if err := looksRepaired(m, want, torn, false); err != nil {
			t.Errorf("operation %d: %v", k, err)
		}
		if _, _, err := repairIn(m, "/a.vdi"); err != nil {
			t.Fatal(err)
		}
		if err := looksRepaired(m, want, torn, true); err != nil {
			t.Errorf("operation %d, and again: %v", k, err)
		}
	}
}

// TestRepairStopped: a repair that is not wanted any more changes nothing.
func TestRepairStopped(t *testing.T) {
	b, _, _ := wreck()
	m := crashfs.New()
	m.Put("/a.vdi", b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := imgops.RepairFS(ctx, m, "/a.vdi", imgops.RepairOptions{}, nil); !errors.Is(err, context.Canceled) || m.Ops() > 0 {
		t.Errorf("%d operations, %v", m.Ops(), err)
	}
}

// FuzzRepair: any header and map is refused, or mended so that nothing is left to be
// mended and the image can be written to.
func FuzzRepair(f *testing.F) {
	b, _, _ := wreck()
	f.Add(b[:1024], uint32(len(b)))
	f.Add(small().Bytes()[:600], uint32(900000))
	f.Fuzz(func(t *testing.T, head []byte, size uint32) {
		if len(head) > 64<<10 || size > 8<<20 {
			return
		}
		m := crashfs.New()
		m.Put("/a.vdi", append(bytes.Clone(head), make([]byte, max(int(size)-len(head), 0))...))
		_, kept, err := repairIn(m, "/a.vdi")
		if err != nil {
			return
		}
		mends, again, err := repairIn(m, "/a.vdi")
		if err != nil || len(again) != len(kept) || len(kept) == 0 && len(mends) > 0 {
			t.Fatalf("again: %v, %v, %v", mends, again, err)
		}
		c, err := vdcore.OpenFS(m, "/a.vdi", vdcore.Options{Alone: true})
		if err != nil {
			if len(kept) == 0 {
				t.Fatal(err)
			}
			return
		}
		defer c.Close()
		if len(kept) == 0 && c.Top().Layer().Info().ModUUID == uuid.Nil {
			t.Fatal("no modification UUID")
		}
	})
}
