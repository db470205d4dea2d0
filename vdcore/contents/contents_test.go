package contents

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
)

const mib = 1 << 20

// parts writes partitions as "number:start+size", sectors of 512 bytes.
func parts(c Contents) string {
	var list []string
	for _, p := range c.Partitions {
		list = append(list, fmt.Sprintf("%d:%d+%d", p.Number, p.Start/512, p.Size/512))
	}
	return strings.Join(list, " ")
}

func expect(t *testing.T, m *image, table, want string, notes ...string) Contents {
	t.Helper()
	c := Read(m, m.size)
	if c.Table != table || parts(c) != want {
		t.Errorf("%q with %q, want %q with %q", c.Table, parts(c), table, want)
	}
	all := strings.Join(c.Notes, "\n")
	for _, n := range notes {
		if !strings.Contains(all, n) {
			t.Errorf("no note says %q: %q", n, all)
		}
	}
	if len(notes) == 0 && all != "" {
		t.Errorf("notes: %q", all)
	}
	return c
}

func TestGPT(t *testing.T) {
	m := newImage(64 * mib)
	m.putGPT(512, gptPart{2048, 4095, "boot 🐧"}, gptPart{}, gptPart{8192, 8192, "x"})
	// Entry 2 has a type and is one sector at 0: odd, and none of our business.
	c := expect(t, m, "gpt", "1:2048+2048 2:0+1 3:8192+1")
	if p := c.Partitions[0]; p.Name != "boot 🐧" || p.Type != "Linux filesystem" || p.UUID != "00000001-0000-0000-0000-000000000000" {
		t.Errorf("%+v", p)
	}
}

func TestBackupGPT(t *testing.T) {
	for name, damage := range map[string]func(m *image){
		"header gone":      func(m *image) { m.put(512, make([]byte, 512)) },
		"one entry bit":    func(m *image) { m.pieces[1024] = append([]byte{1}, m.pieces[1024][1:]...) },
		"sectors lost":     func(m *image) { m.bad = [2]int64{512, 2048} },
		"made larger":      func(m *image) { m.put(512, make([]byte, 512)); m.size += 100 * mib },
		"larger, entries":  func(m *image) { m.pieces[1024] = make([]byte, 512); m.size += 100*mib + 512 },
		"header elsewhere": func(m *image) { h := m.pieces[512]; h[24] = 2; seal(h) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, sector := range []int64{512, 4096} {
				if sector == 4096 && (name != "header gone" && name != "made larger") {
					continue
				}
				m := newImage(64 * mib)
				m.putGPT(sector, gptPart{uint64(mib / sector), uint64(2*mib/sector) - 1, "a"})
				if sector == 4096 {
					m.put(4096, make([]byte, 512))
				}
				if name == "header gone" || sector == 512 {
					damage(m)
				} else {
					m.size += 100 * mib
				}
				c := Read(m, m.size)
				if parts(c) != "1:2048+2048" || c.SectorSize != sector || !strings.Contains(strings.Join(c.Notes, " "), "backup") {
					t.Errorf("sectors of %d: %s, %q", sector, parts(c), c.Notes)
				}
			}
		})
	}
}

func TestBothCopiesDamaged(t *testing.T) {
	m := newImage(64 * mib)
	m.putGPT(512, gptPart{2048, 4095, "a"})
	m.put(512, make([]byte, 512))
	m.put(m.size-512, make([]byte, 512))
	expect(t, m, "gpt", "", "no sound copy")
}

func TestGPTAndMBR(t *testing.T) {
	m := newImage(64 * mib)
	m.putGPT(512, gptPart{2048, 4095, "a"})
	m.put(0, table(entry{0xEE, 0, 1, 2047}, entry{0x83, 0x80, 2048, 100}))
	expect(t, m, "gpt", "1:2048+2048", "hybrid")
	m.put(0, table(entry{0x83, 0, 4096, 100})) // an MBR made over a GPT: Linux follows the MBR
	expect(t, m, "mbr", "1:4096+100")
	m.put(0, make([]byte, 512))
	expect(t, m, "gpt", "1:2048+2048", "no MBR")
}

// TestFormerGPT: a file system made over a disk that had a GPT, by a program that left
// its end alone, counts, as it does with Linux.
func TestFormerGPT(t *testing.T) {
	m := newImage(64 * mib)
	m.putGPT(512, gptPart{2048, 4095, "a"})
	m.put(0, make([]byte, 512))
	m.put(512, make([]byte, 512))
	expect(t, m, "gpt", "1:2048+2048", "no MBR", "backup")
	m.put(0, append([]byte("XFSB"), make([]byte, 508)...))
	if c := expect(t, m, "", "", "written over"); c.Content == nil || c.Content.Type != "xfs" {
		t.Errorf("%+v", c.Content)
	}
}

// TestHostileGPT: entries and headers that are nowhere or overflow.
func TestHostileGPT(t *testing.T) {
	m := newImage(64*mib + 100)
	m.putGPT(512,
		gptPart{math.MaxUint64, math.MaxUint64, "behind"},
		gptPart{0, math.MaxUint64, "all there is"},
		gptPart{5000, 4999, "backwards"},
		gptPart{100000, math.MaxUint64 - 1, "too long"},
		gptPart{131072, 131072, "the odd bytes"})
	c := expect(t, m, "gpt", "4:100000+31072 5:131072+0",
		"1 begins behind", "2 ends before", "3 ends before", "4 reaches behind", "overlap")
	if p := c.Partitions[1]; p.Size != 100 {
		t.Errorf("%+v", p)
	}
	for _, change := range []func(h []byte){
		func(h []byte) { binary.LittleEndian.PutUint32(h[80:], math.MaxUint32) },
		func(h []byte) { binary.LittleEndian.PutUint32(h[84:], math.MaxUint32-7) },
		func(h []byte) { binary.LittleEndian.PutUint32(h[84:], 0) },
		func(h []byte) { binary.LittleEndian.PutUint64(h[72:], math.MaxUint64) },
		func(h []byte) { binary.LittleEndian.PutUint64(h[72:], 1<<55) },
	} {
		for _, lba := range []int64{1, m.size/512 - 1} {
			h := m.pieces[lba*512]
			change(h)
			seal(h)
		}
		expect(t, m, "gpt", "", "no sound copy")
		m.putGPT(512)
	}
}

func TestManyPartitions(t *testing.T) {
	m := newImage(64 * mib)
	list := make([]gptPart, 128)
	for i := range list {
		list[i] = gptPart{uint64(2048 + i), uint64(2048 + i), ""}
	}
	m.putGPT(512, list...)
	if c := Read(m, m.size); len(c.Partitions) != 128 {
		t.Errorf("%d partitions", len(c.Partitions))
	}
}

func TestLogicals(t *testing.T) {
	m := newImage(64 * mib)
	m.put(0, table(entry{0x83, 0x80, 2048, 2048}, entry{0x05, 0, 8192, 40000}, entry{}, entry{0x0B, 0, 100000, 1000}))
	m.put(8192*512, table(entry{0x83, 0, 63, 100}, entry{0x05, 0, 1000, 500}))
	m.put(9192*512, table(entry{0x82, 0, 63, 200}, entry{0x05, 0, 3000, 500}))
	m.put(11192*512, table(entry{}, entry{}, entry{0x83, 0, 63, 9}, entry{0x83, 0, 90000, 9}))
	c := expect(t, m, "mbr", "1:2048+2048 2:8192+40000 4:100000+1000 5:8255+100 6:9255+200 7:11255+9")
	if p := c.Partitions[1]; !p.Extended || p.Type != "Extended" {
		t.Errorf("%+v", p)
	}
	if !c.Partitions[0].Bootable || c.Partitions[2].Bootable {
		t.Error("the active partition is the first")
	}
}

func TestHostileLogicals(t *testing.T) {
	m := newImage(64 * mib)
	m.put(0, table(entry{0x05, 0, 8192, 40000}, entry{0x05, 0, 8192, 40000}))
	m.put(8192*512, table(entry{0x83, 0, 63, 100}, entry{0x05, 0, 1000, 500}))
	m.put(9192*512, table(entry{0x83, 0, 63, 100}, entry{0x05, 0, 0, 500}))
	expect(t, m, "mbr", "1:8192+40000 2:8192+40000 5:8255+100 6:9255+100", "loops")

	m.put(9192*512, table(entry{0x83, 0, math.MaxUint32, math.MaxUint32}, entry{0x05, 0, math.MaxUint32, 500}))
	expect(t, m, "mbr", "1:8192+40000 2:8192+40000 5:8255+100", "6 begins behind", "breaks off before partition 7", "loops")

	m = newImage(4 << 40)
	m.put(0, table(entry{0x0F, 0, 1, math.MaxUint32}))
	for i := int64(1); i < 400; i++ {
		m.put(i*512, table(entry{0x83, 0, 5000, 1}, entry{0x0F, 0, uint32(i), 1}))
	}
	if c := Read(m, m.size); len(c.Partitions) > maxPartitions || c.Partitions[len(c.Partitions)-1].Number > maxPartitions {
		t.Errorf("%d partitions", len(c.Partitions))
	}
	for i := int64(1); i < 400; i++ {
		m.put(i*512, table(entry{0x0F, 0, uint32(i), 1}))
	}
	expect(t, m, "mbr", "1:1+4294967295", "too long")
}

// TestMBR4096: nothing in an MBR says how large sectors are, but what lies in it does.
func TestMBR4096(t *testing.T) {
	m := newImage(64 * mib)
	m.put(0, table(entry{0x83, 0, 256, 512}))
	m.put(mib, []byte("XFSB"+strings.Repeat("\x00", 508)))
	c := expect(t, m, "mbr", "1:2048+4096", "sectors of 4096")
	if c.SectorSize != 4096 || c.Partitions[0].Content.Type != "xfs" {
		t.Errorf("%+v", c)
	}
}

func TestNoTable(t *testing.T) {
	expect(t, newImage(0), "", "", "no partition table")
	expect(t, newImage(100), "", "", "no partition table")
	m := newImage(mib)
	m.bad = [2]int64{0, mib}
	expect(t, m, "", "", "no partition table", "bad sector")
	m = newImage(mib)
	m.put(0, table())
	if c := Read(m, m.size); c.Table != "mbr" || len(c.Partitions) != 0 {
		t.Errorf("%+v", c)
	}
	boot := table(entry{'r', 'e', 0x20726568, 0x646F6F62})
	m.put(0, boot)
	expect(t, m, "", "", "no partition table")
}
