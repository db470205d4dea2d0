package imgops_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/vdtest"
)

const surveyBlock = 128 << 10 // bytes, the smallest there is

// surveyed opens a chain of two VDIs: a base with the entries given and
// a child.
func surveyed(t *testing.T, base, child []uint32) *vdcore.Chain {
	t.Helper()
	m := vdtest.NewMem()
	b := vdtest.VDI{Capacity: int64(len(base)) * surveyBlock, BlockSize: surveyBlock, ID: uuid.New(), Mod: uuid.New(), Map: base, Slots: slots(base)}
	c := vdtest.VDI{Capacity: int64(len(child)) * surveyBlock, BlockSize: surveyBlock, ID: uuid.New(), Mod: uuid.New(), Parent: b.ID, ParentMod: b.Mod, Map: child, Slots: slots(child)}
	m.Put("/vm/base.vdi", b.Bytes())
	m.Put("/vm/child.vdi", c.Bytes())
	chain, err := vdcore.OpenFS(m, "/vm/child.vdi", vdcore.Options{AllowIncomplete: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	return chain
}

// slots makes a block for each entry that leads to one.
func slots(entries []uint32) (list [][]byte) {
	for _, e := range entries {
		if e < vdtest.VDIZero && e < 1<<20 {
			list = append(list, make([]byte, surveyBlock))
		}
	}
	return list
}

// TestSurvey: the shares are those of the tables, layer by layer, and what is seen of
// each in the disk.
func TestSurvey(t *testing.T) {
	const f, z = vdtest.VDIFree, vdtest.VDIZero
	c := surveyed(t, []uint32{0, 1, z, f, f, 2, 1 << 21, f}, []uint32{f, 0, f, 1, z, f, f, f, f, f})
	for _, limit := range []time.Duration{0, time.Hour} {
		s, err := imgops.TakeSurvey(t.Context(), c, 5, limit) // of 2 blocks each
		if err != nil {
			t.Fatal(err)
		}
		want := [][]imgops.Share{
			{{Data: 2 * surveyBlock}, {Zero: surveyBlock}, {Data: surveyBlock}, {Lost: surveyBlock}, {}},
			{{Data: surveyBlock}, {Data: surveyBlock}, {Zero: surveyBlock}, {}, {}},
		}
		for i := range want {
			for k := range want[i] {
				want[i][k].Looked = 2 * surveyBlock
				if s.Layers[i][k] != want[i][k] {
					t.Errorf("layer %d, part %d: %+v, want %+v", i, k, s.Layers[i][k], want[i][k])
				}
			}
		}
		seen, err := s.Seen(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range [][]imgops.Share{
			{{Data: surveyBlock}, {Zero: surveyBlock}, {Data: surveyBlock}, {Lost: surveyBlock}, {}},
			{{Data: surveyBlock}, {Data: surveyBlock}, {Zero: surveyBlock}, {}, {}},
			{{}, {}, {}, {Zero: surveyBlock}, {Zero: 2 * surveyBlock}},
		} {
			for k := range want {
				if seen[i][k] != want[k] {
					t.Errorf("seen of layer %d, part %d: %+v, want %+v", i, k, seen[i][k], want[k])
				}
			}
		}
		if !s.Whole {
			t.Error("not all was looked at")
		}
	}
}

// TestSurveySample: when time is up every part has been looked at, evenly, and what is
// lost is told all the same.
func TestSurveySample(t *testing.T) {
	entries := make([]uint32, 64<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range entries {
		entries[i] = vdtest.VDIFree
		if r.IntN(2) == 0 {
			entries[i] = vdtest.VDIZero
		}
	}
	entries[5000] = 1 << 21 // leads nowhere
	c := surveyed(t, entries, entries[:1])
	s, err := imgops.TakeSurvey(t.Context(), c, 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	for k, share := range s.Layers[0] {
		part := float64(share.Zero) / float64(share.Looked)
		if share.Looked == 0 || share.Looked >= s.Part || part < 0.4 || part > 0.6 {
			t.Errorf("part %d: %+v of %d", k, share, s.Part)
		}
	}
	if s.Whole || s.Layers[0][0].Lost != surveyBlock {
		t.Errorf("whole %v, %+v", s.Whole, s.Layers[0][0])
	}
}
