package vmdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
	"vdfs/vdcore/vdtest"
)

func repairIn(fsys storage.FS, path string) ([]vdcore.Mend, []vdcore.Finding, error) {
	var mends []vdcore.Mend
	_, kept, err := imgops.RepairFS(context.Background(), fsys, path, imgops.RepairOptions{Announce: func(r *vdcore.Repair) error {
		mends = append(mends, r.Plan.Mends...)
		return nil
	}}, nil)
	return mends, kept, err
}

// wreck is an image of a dozen grains of 4 KiB, and what is wrong with it.
type wreck struct {
	name  string
	image []byte
	flat  []byte // what the sound image shows
	codes []string
	lost  []int  // grains that are gone
	odd   []int  // grains that may read as anything before the repair is done
	torn  [2]int // the grain the file ends in, and how much of it there is
}

const (
	brokenGrains = 12
	brokenData   = 128 * 512 // where the grains begin
)

func soundDisk() (b, flat []byte) {
	h := hosted{capacity: brokenGrains*8 - 3, grain: 8, grains: []int{3, free, 0, 1, 2, zero, 4, 5, 6, free, 7, 8},
		desc: text("monolithicSparse", fmt.Sprintf(`RW %d SPARSE "disk.vmdk"`, brokenGrains*8-3))}
	return h.bytes(), h.flat()
}

func wrecks() []wreck {
	sound, flat := soundDisk()
	const gt, rgt = smallGT, smallRGD + 512
	damage := func(name string, codes []string, lost, odd []int, change ...change) wreck {
		b := bytes.Clone(sound)
		for _, c := range change {
			b = c(b)
		}
		return wreck{name: name, image: b, flat: flat, codes: codes, lost: lost, odd: odd}
	}
	both := func(grain int, v uint32) change {
		return func(b []byte) []byte { return put32(rgt+4*grain, v)(put32(gt+4*grain, v)(b)) }
	}
	list := []wreck{
		damage("directory outside", []string{"directory-outside"}, nil, nil, put64(56, 1<<30)),
		damage("redundant directory outside", []string{"redundant-directory"}, nil, nil, put64(48, 1<<30)),
		damage("table outside", []string{"table-outside"}, nil, nil, put32(smallGD, 1<<30)),
		damage("redundant table outside", []string{"redundant-table-outside"}, nil, nil, put32(smallRGD, 1<<30)),
		damage("table in the header", []string{"table-outside"}, nil, nil, put32(smallGD, 2)),
		damage("one grain outside", []string{"grain-outside"}, nil, []int{2}, put32(gt+8, 1<<30)),
		damage("a grain outside, in both", []string{"grain-outside"}, []int{2}, []int{2}, both(2, 1<<30)),
		damage("a grain in the tables", []string{"grain-in-metadata"}, []int{3}, []int{3}, both(3, 27)),
		damage("shared, the redundant set knows", []string{"shared-grain"}, nil, []int{3}, put32(gt+12, 128)),
		damage("shared, the first one is wrong", []string{"shared-grain"}, nil, []int{0}, put32(gt, 128)),
		damage("shared in both", []string{"shared-grain"}, []int{6}, []int{6}, both(6, 128)),
		damage("overlapping in part", []string{"shared-grain"}, []int{6}, []int{6}, both(6, 129)),
		damage("a free entry only in the primary", []string{"redundant-table"}, nil, []int{6}, put32(gt+24, 0)),
		damage("not closed, sets differ", []string{"leaked-grain", "redundant-table", "unclean"}, []int{6}, []int{6}, put32(gt+24, 0), func(b []byte) []byte { b[72] = 1; return b }),
		damage("not closed", []string{"unclean"}, nil, nil, func(b []byte) []byte { b[72] = 1; b[8] &^= flagSpare; return b }),
		damage("a tail", []string{"leaked-tail"}, nil, nil, func(b []byte) []byte { return append(b, stamp(77, 5000)...) }),
		damage("all of it", []string{"directory-outside", "grain-outside", "shared-grain", "leaked-tail"}, []int{2, 3}, []int{2, 3},
			put64(56, 1<<30), put32(rgt+8, 1<<30), put32(rgt+12, 128+24), func(b []byte) []byte { return append(b, stamp(77, 5000)...) }),
	}
	torn := damage("cut", []string{"grain-torn"}, nil, nil, cut(len(sound)-4096+1000))
	torn.torn = [2]int{11, 1000}
	also := damage("cut, and a table outside", []string{"grain-torn", "table-outside"}, nil, nil, cut(len(sound)-4096+1000), put32(smallGD, 1<<30))
	also.torn = torn.torn
	return append(list, torn, also)
}

// look fails unless the disk shows what it should: grains that are gone read as zeros
// once the repair is done; before, they may be anything, or not to be read.
func (c *wreck) look(fsys storage.FS, done bool) error {
	chain, err := vdcore.OpenFS(fsys, "/vm/disk.vmdk", vdcore.Options{AllowIncomplete: !done})
	if err != nil {
		return err
	}
	defer chain.Close()
	for k := range brokenGrains {
		got := make([]byte, min(4096, len(c.flat)-k*4096))
		want := c.flat[k*4096:][:len(got)]
		if k == c.torn[0] && c.torn[1] > 0 {
			if !done {
				got = got[:c.torn[1]]
			}
			want = append(bytes.Clone(want[:c.torn[1]]), make([]byte, 4096)...)[:len(got)]
		}
		if slices.Contains(c.lost, k) {
			want = make([]byte, len(got))
		}
		_, err := chain.Top().ReadAt(got, int64(k)*4096)
		if !done && slices.Contains(c.odd, k) {
			continue
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("grain %d: %w", k, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("grain %d reads as %.20q…", k, got)
		}
	}
	if !done {
		return nil
	}
	found, err := imgops.Check(chain)
	if err == nil && len(found[0].Findings) > 0 {
		err = fmt.Errorf("found %+v", found[0].Findings)
	}
	return err
}

// TestRepair mends one thing at a time, says what, and saves what it replaced; QEMU
// agrees with what comes of it.
func TestRepair(t *testing.T) {
	for _, c := range wrecks() {
		t.Run(c.name, func(t *testing.T) {
			m := crashfs.New()
			m.Put("/vm/disk.vmdk", c.image)
			mends, kept, err := repairIn(m, "/vm/disk.vmdk")
			if err != nil || len(kept) > 0 {
				t.Fatal(err, kept)
			}
			var codes []string
			lost := map[int64]bool{}
			for _, x := range mends {
				codes = append(codes, x.Code)
				for _, r := range x.Lost {
					for off := r.Off; off < r.Off+r.Len; off += 512 {
						lost[off/4096] = true
					}
				}
			}
			slices.Sort(codes)
			want := slices.Sorted(slices.Values(c.codes))
			if !slices.Equal(codes, want) {
				t.Errorf("found %v, want %v", codes, want)
			}
			var gone []int64
			for _, k := range c.lost {
				if c.name != "not closed, sets differ" { // the primary set says that it is free
					gone = append(gone, int64(k))
				}
			}
			if c.torn[1] > 0 {
				gone = append(gone, int64(c.torn[0]))
			}
			if got := slices.Sorted(maps.Keys(lost)); !slices.Equal(got, gone) {
				t.Errorf("lost are %v, want %v", got, gone)
			}
			if err := c.look(m, true); err != nil {
				t.Error(err)
			}
			back := vdtest.Restore(t, m.Bytes("/vm/disk.vmdk.vdfs-backup-1"), map[string][]byte{"disk.vmdk": m.Bytes("/vm/disk.vmdk")})
			if !bytes.Equal(back["disk.vmdk"], c.image) {
				t.Error("the backup does not bring back the image as it was")
			}
			if mends, _, err := repairIn(m, "/vm/disk.vmdk"); err != nil || len(mends) > 0 {
				t.Errorf("a second repair: %v, %v", mends, err)
			}
		})
	}
}

// TestRepairKept: what cannot be mended is said, and stays as it is.
func TestRepairKept(t *testing.T) {
	sound, _ := soundDisk()
	for name, c := range map[string]struct {
		change change
		code   string
	}{
		"tables share bytes": {put32(smallGD, 22), "tables-overlap"},
		"capacity too small": {put64(12, 32), "capacity-short"},
	} {
		m := crashfs.New()
		m.Put("/vm/disk.vmdk", c.change(bytes.Clone(sound)))
		_, kept, err := repairIn(m, "/vm/disk.vmdk")
		if err != nil || len(kept) == 0 || kept[0].Code != c.code {
			t.Errorf("%s: %v, %v", name, kept, err)
		}
	}
}

// cutStream is a compressed image whose footer is told of and not there.
func cutStream(tail int) (image, flat []byte) {
	h := hosted{capacity: brokenGrains * 8, grain: 8, grains: []int{3, free, 0, 1, 2, free, 4, 5, 6, free, 7, 8}, packed: true, footer: true,
		desc: text("streamOptimized", fmt.Sprintf(`RW %d SPARSE "disk.vmdk"`, brokenGrains*8))}
	b := h.bytes()
	for _, at := range []int{smallGD, smallGT, smallRGD, smallRGD + 512} { // its builder has tables in front
		clear(b[at : at+512])
	}
	binary.LittleEndian.PutUint32(b[8:], 0x30001)
	return b[:len(b)-3*512-tail], h.flat()
}

// TestRebuild finds the grains of a stream without tables.
func TestRebuild(t *testing.T) {
	for _, tail := range []int{0, 512, 700} {
		b, flat := cutStream(tail)
		if tail > 0 { // the last record is cut
			clear(flat[11*4096:])
		}
		m := crashfs.New()
		m.Put("/vm/disk.vmdk", b)
		mends, kept, err := repairIn(m, "/vm/disk.vmdk")
		if err != nil || len(kept) > 0 || len(mends) != 1 || mends[0].Code != "footer" {
			t.Fatal(mends, kept, err)
		}
		if err := (&wreck{flat: flat}).look(m, true); err != nil {
			t.Error(err)
		}
	}
}

// TestCrashRepair lets the power go at operations of a repair: at all of them, of
// every image, with VDFS_CRASH_SEEDS.
func TestCrashRepair(t *testing.T) {
	opt := vdtest.CrashOptions{MaxCuts: 4, Survivors: 2}
	seeds, _ := strconv.Atoi(os.Getenv("VDFS_CRASH_SEEDS"))
	if seeds > 0 {
		opt = vdtest.CrashOptions{}
	}
	list := wrecks()
	stream, flat := cutStream(700)
	clear(flat[11*4096:])
	list = append(list, wreck{name: "no footer", image: stream, flat: flat})
	for _, c := range list {
		for opt.Seed = range uint64(max(seeds, 1)) {
			vdtest.CrashOperation(t, vdtest.Operation{
				Name: c.name, Files: map[string][]byte{"/vm/disk.vmdk": c.image},
				Do: func(fsys storage.FS) error {
					_, kept, err := repairIn(fsys, "/vm/disk.vmdk")
					if err == nil && len(kept) > 0 {
						err = fmt.Errorf("kept %v", kept)
					}
					return err
				},
				Look: func(fsys storage.FS, done bool) error {
					if c.name == "no footer" && !done {
						return nil // it does not open before, or shows all: Do's end tells
					}
					return c.look(fsys, done)
				},
			}, opt)
		}
	}
}

// FuzzRescan: whatever a file without footer holds, what is found in it unpacks, and
// the image made of it opens with the same grains.
func FuzzRescan(f *testing.F) {
	b, _ := cutStream(700)
	f.Add(b[brokenData:])
	b, _ = cutStream(0)
	f.Add(b[brokenData:])
	f.Add(append(append(bytes.Clone(b[brokenData:]), withMarker(markerTable, stamp(1, 2048))...), withMarker(markerDirectory, stamp(2, 4))...))
	f.Add(append(b[brokenData+512:], packRecord(16, deflated(stamp(5, 4096)))...)) // one grain twice
	head, _ := cutStream(0)
	f.Fuzz(func(t *testing.T, tail []byte) {
		if len(tail) > 1<<18 {
			return
		}
		m := crashfs.New()
		m.Put("/vm/disk.vmdk", append(bytes.Clone(head[:brokenData]), tail...))
		mends, kept, err := repairIn(m, "/vm/disk.vmdk")
		if err != nil || len(kept) > 0 {
			if !sentinel(err) {
				t.Fatal(mends, kept, err)
			}
			return
		}
		c, err := vdcore.OpenFS(m, "/vm/disk.vmdk", vdcore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Top().ReadAt(make([]byte, c.Top().Capacity()), 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
	})
}

// FuzzRepair: any image is refused, or mended so that nothing is left to be mended and
// it opens without damage.
func FuzzRepair(f *testing.F) {
	for _, c := range wrecks() {
		f.Add(c.image)
	}
	h := hosted{capacity: 24, grain: 8, grains: []int{1, free, 0}, packed: true, desc: text("streamOptimized", `RW 24 SPARSE "disk.vmdk"`)}
	f.Add(h.bytes())
	h.footer = true
	f.Add(h.bytes())
	f.Fuzz(func(t *testing.T, image []byte) {
		if len(image) > 1<<18 {
			return
		}
		m := crashfs.New()
		m.Put("/vm/disk.vmdk", bytes.Clone(image))
		mends, kept, err := repairIn(m, "/vm/disk.vmdk")
		if err != nil {
			if !sentinel(err) {
				t.Fatal(mends, err)
			}
			return
		}
		again, same, err := repairIn(m, "/vm/disk.vmdk")
		if err != nil || len(again) > 0 || len(same) != len(kept) {
			t.Fatalf("first %v, %v; again %v, %v, %v", mends, kept, again, same, err)
		}
		c, err := vdcore.OpenFS(m, "/vm/disk.vmdk", vdcore.Options{Alone: true, AllowIncomplete: len(kept) > 0})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}
