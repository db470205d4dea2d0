package vdtest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// Restore applies a repair's backup to files, by name, as its text says: an
// independent reading of the format.
func Restore(t testing.TB, backup []byte, files map[string][]byte) map[string][]byte {
	t.Helper()
	out, names := map[string][]byte{}, map[int]string{}
	text, _, whole := strings.Cut(string(backup), "\nend\n")
	if !whole || !strings.HasPrefix(text, "vdfs backup 1\n") {
		t.Fatalf("no backup: %.40q", text)
	}
	for line := range strings.Lines(text) {
		var k, size, pos, n, from int
		var name string
		switch {
		case scan(line, "file %d size %d %q", &k, &size, &name):
			b := bytes.Clone(files[name])
			b = append(b[:min(len(b), size)], make([]byte, max(size-len(b), 0))...)
			names[k], out[name] = name, b
		case scan(line, "zero file %d at %d length %d", &k, &pos, &n):
			clear(out[names[k]][pos : pos+n])
		case scan(line, "save file %d at %d length %d from %d", &k, &pos, &n, &from):
			copy(out[names[k]][pos:pos+n], backup[from:])
		}
	}
	return out
}

func scan(line, format string, to ...any) bool {
	n, err := fmt.Sscanf(line, format, to...)
	return err == nil && n == len(to)
}
