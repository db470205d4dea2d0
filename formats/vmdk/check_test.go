package vmdk

import (
	"bytes"
	"encoding/binary"
	"maps"
	"testing"

	"vdfs/vdcore"
)

// TestCheck: what a crash leaves is a leak; tables that differ in a file that was
// closed are not.
func TestCheck(t *testing.T) {
	sound := small()
	entry := func(grain int, spare bool, v uint32) func(b []byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[smallGT+4*grain:], v)
			if spare {
				binary.LittleEndian.PutUint32(b[smallRGD+512+4*grain:], v)
			}
			return b
		}
	}
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   map[string]bool // code → leak
	}{
		"sound":        {func(b []byte) []byte { return b }, map[string]bool{}},
		"tail":         {func(b []byte) []byte { return append(b, make([]byte, 8192)...) }, map[string]bool{"leaked-tail": true}},
		"last grain":   {entry(0, true, 0), map[string]bool{"leaked-tail": true}},
		"first grain":  {entry(3, true, 0), map[string]bool{}},
		"killed":       {func(b []byte) []byte { b[72] = 1; return entry(3, true, 0)(b) }, map[string]bool{"leaked-grain": true, "unclean": false}},
		"sets differ":  {entry(0, false, 0), map[string]bool{"redundant-table": false}},
		"not closed":   {func(b []byte) []byte { b[72] = 1; return entry(0, false, 0)(b) }, map[string]bool{"redundant-table": true, "leaked-tail": true, "unclean": false}},
		"shared grain": {entry(3, true, 136), map[string]bool{"shared-grain": false}},
	} {
		fs := files{"disk.vmdk": c.change(bytes.Clone(sound.bytes()))}
		img, err := fs.open(t, "disk.vmdk")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found, err := img.(vdcore.Checker).Check()
		got := map[string]bool{}
		for _, f := range found {
			got[f.Code] = f.Leak
		}
		if err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: found %+v, %v; want %v", name, found, err, c.want)
		}
	}
}
