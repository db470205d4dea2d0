package vmdk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vdfs/vdcore"
)

// packedDisk is a compressed image of n grains in the order of the guest, and
// where the entries of its tables lie.
func packedDisk(n, grain int) (b []byte, entries int) {
	h := hosted{capacity: n * grain, grain: grain, packed: true, grains: make([]int, n)}
	for i := range h.grains {
		h.grains[i] = i
	}
	h.desc = text("streamOptimized", fmt.Sprintf(`RDONLY %d SPARSE "disk.vmdk"`, h.capacity))
	b = h.bytes()
	return b, int(binary.LittleEndian.Uint32(b[binary.LittleEndian.Uint64(b[56:])*512:])) * 512
}

// recordAt is where the entry of grain i leads.
func recordAt(b []byte, entries, i int) int {
	return int(binary.LittleEndian.Uint32(b[entries+4*i:])) * 512
}

// kindAt is what the map says of one byte, asked for by itself.
func kindAt(t *testing.T, img vdcore.Image, off int64) vdcore.Kind {
	t.Helper()
	list, err := img.Map(nil, off, 1)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	return list[0].Kind
}

// TestDamagedRecords: a compressed grain that is known to be damaged is Lost in
// the map, as it is in the list.
func TestDamagedRecords(t *testing.T) {
	const grain = 8 * 512
	b, entries := packedDisk(6, 8)
	b[recordAt(b, entries, 1)+markerSize+2] ^= 0xFF                            // the stream
	b[recordAt(b, entries, 3)] ^= 0x08                                         // the address
	copy(b[recordAt(b, entries, 4):], packRecord(32, deflated(stamp(4, 100)))) // short
	img, err := files{"disk.vmdk": b}.open(t, "disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(6) {
		want := vdcore.Packed
		if i == 1 || i >= 3 && i < 5 {
			want = vdcore.Lost
		}
		for _, off := range []int64{0, 1000, grain - 1} {
			if got := kindAt(t, img, i*grain+off); got != want {
				t.Errorf("byte %d of grain %d is %v, want %v", off, i, got, want)
			}
		}
	}
	if d := img.Info().Damage; len(d) != 3 {
		t.Errorf("damage %v", d)
	}
	rightOrLost(t, img, packedFlat(6, 8))
}

func packedFlat(n, grain int) []byte {
	var b []byte
	for i := range n {
		b = append(b, stamp(i, grain*512)...)
	}
	return b
}

// TestShortLastRecord: VMware packs no more of the last grain than the disk has.
func TestShortLastRecord(t *testing.T) {
	const left = 3 * 512
	for _, c := range []struct {
		packed int
		want   vdcore.Kind
	}{{8 * 512, vdcore.Packed}, {left, vdcore.Packed}, {left - 1, vdcore.Lost}} {
		b, entries := packedDisk(2, 8)
		copy(b[recordAt(b, entries, 1):], packRecord(8, deflated(stamp(1, c.packed))))
		b = []byte(strings.Replace(string(b), "RDONLY 16 SPARSE", "RDONLY 11 SPARSE", 1))
		img, err := files{"disk.vmdk": b}.open(t, "disk.vmdk")
		if err != nil {
			t.Fatal(err)
		}
		if got := kindAt(t, img, 8*512); got != c.want {
			t.Errorf("a last grain of %d bytes is %v, want %v", c.packed, got, c.want)
		}
		rightOrLost(t, img, packedFlat(2, 8))
	}
}

// TestSharedRecords: a record belongs to one grain, whatever the tables say; this
// is seen at open, also behind what is tried out of every image.
func TestSharedRecords(t *testing.T) {
	const grain = 128 // sectors: 64 KiB, so that 4 grains are tried
	for _, c := range []struct {
		wrong, right int
		lost         bool // and not only warned of
	}{
		{1, 2, true},    // tried anyhow
		{20, 3, true},   // the second of the two
		{19, 22, false}, // the first: reading it fails
	} {
		b, entries := packedDisk(24, grain)
		copy(b[entries+4*c.wrong:][:4], b[entries+4*c.right:])
		img, err := files{"disk.vmdk": b}.open(t, "disk.vmdk")
		if err != nil {
			t.Fatal(err)
		}
		if w := img.Info().Warnings; len(w) != 1 || !strings.Contains(w[0], "two grain table entries share a grain (1 times)") {
			t.Errorf("%+v: warnings %q", c, w)
		}
		off := int64(c.wrong) * grain * 512
		list, err := img.Map(nil, off, 512)
		if err != nil {
			t.Fatal(err)
		}
		if lost := list[0].Kind == vdcore.Lost; lost != c.lost || lost != (len(img.Info().Damage) == 1) {
			t.Errorf("%+v: %v, damage %v", c, list, img.Info().Damage)
		}
		if list[0].Kind == vdcore.Packed {
			if _, err := img.(vdcore.Decoder).Decode(list[0], nil); !errors.Is(err, vdcore.ErrCorrupt) {
				t.Errorf("%+v: decoded, %v", c, err)
			}
		}
		if got := kindAt(t, img, int64(c.right)*grain*512); got != vdcore.Packed {
			t.Errorf("%+v: the rightful grain is %v", c, got)
		}
	}
}
