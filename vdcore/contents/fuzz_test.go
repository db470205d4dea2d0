package contents

import (
	"testing"
	"unicode/utf8"
)

// FuzzRead reads disks of any size that begin with one text and end with another. What
// comes of it lies on the disk, and is no more than promised.
func FuzzRead(f *testing.F) {
	for _, sector := range []int64{512, 4096} {
		m := newImage(mib)
		m.putGPT(sector, gptPart{64, 100, "a"}, gptPart{101, 1 << 60, "b"})
		head, tail := make([]byte, 8*sector), make([]byte, 2*sector)
		m.ReadAt(head, 0)
		m.ReadAt(tail, mib-2*sector)
		f.Add(head, tail, uint32(mib))
	}
	f.Add(append(table(entry{0x05, 0, 1, 1000}), table(entry{0x83, 0, 1, 9}, entry{0x05, 0, 0, 9})...), []byte{}, uint32(mib))
	f.Fuzz(func(t *testing.T, head, tail []byte, size uint32) {
		m := newImage(int64(size))
		if len(head) > mib || len(tail) > mib {
			t.Skip("too long to be of use")
		}
		m.put(max(0, m.size-int64(len(tail))), tail)
		m.put(0, head)
		c := Read(m, m.size)
		numbers := map[int]bool{}
		for _, p := range c.Partitions {
			if p.Start < 0 || p.Size <= 0 || p.Start > m.size-p.Size {
				t.Errorf("%+v of %d bytes", p, m.size)
			}
			if numbers[p.Number] || p.Number < 1 || p.Number > maxEntries/gptEntry || !utf8.ValidString(p.Name) {
				t.Errorf("%+v", p)
			}
			numbers[p.Number] = true
			checkContent(t, p.Content)
		}
		checkContent(t, c.Content)
		if len(c.Partitions) > maxPartitions || len(c.Notes) > maxNotes {
			t.Errorf("%d partitions, %d notes", len(c.Partitions), len(c.Notes))
		}
	})
}

func checkContent(t *testing.T, c *Content) {
	t.Helper()
	if c != nil && (c.Type == "" || !utf8.ValidString(c.Label) || !utf8.ValidString(c.UUID) || len(c.Label) > 2048) {
		t.Errorf("%+v", c)
	}
}
