package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlainFile: a plain disk is renamed, looked at and removed like any image, and
// says of what it has no room for that it has none.
func TestPlainFile(t *testing.T) {
	dir := t.TempDir()
	path, moved := filepath.Join(dir, "plain.raw"), filepath.Join(dir, "moved.raw")
	if err := os.WriteFile(path, []byte(strings.Repeat("plain", 1<<16)), 0o644); err != nil {
		t.Fatal(err)
	}
	before := sum(t, path)
	const id = "11111111-2222-4333-8444-555555555555"
	for _, option := range [][]string{
		{"--comment", "x"}, {"--uuid", id}, {"--modification-uuid", id}, {"--parent-uuid", id},
		{"--parent-modification-uuid", id}, {"--parent-file", "x"}, {"--pchs", "1/2/3"}, {"--lchs", "1/2/3"},
	} {
		if r := vdfs(t, append([]string{"set", path}, option...)...); r.code != 2 || !strings.Contains(r.stderr, "raw image") {
			t.Errorf("set %s: exit %d, %q", option[0], r.code, r.stderr)
		}
	}
	must(t, "rename", path, moved)
	if out := must(t, "info", "--json", moved); !strings.Contains(out, `"file_size": 327680`) || !strings.Contains(out, `"modified"`) {
		t.Errorf("info says %s", out)
	}
	must(t, "info", "--header", moved)
	must(t, "check", moved)
	if r := vdfs(t, "check", "--repair", moved); r.code != 0 || !strings.Contains(r.stdout+r.stderr, "nothing") {
		t.Errorf("repair: exit %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	if got := namesIn(t, dir); len(got) != 1 || sum(t, moved) != before {
		t.Errorf("%q, content changed: %v", got, sum(t, moved) != before)
	}
	must(t, "rm", moved)
	if got := namesIn(t, dir); len(got) != 0 {
		t.Errorf("rm leaves %q", got)
	}
}
