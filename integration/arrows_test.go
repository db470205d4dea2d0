package integration

import (
	"slices"
	"strings"
	"testing"
)

// TestArrows keeps the import arrows: main → internal/cli → fs, vdcore/imgops,
// formats/all; fs → vdcore, fs/erofs; formats/x → vdcore; vdcore → vdcore/storage.
func TestArrows(t *testing.T) {
	allowed := map[string][]string{
		"vdfs":                  {"vdfs/internal/cli"},
		"vdfs/internal/cli":     {"vdfs/fs", "vdfs/vdcore/imgops", "vdfs/vdcore", "vdfs/vdcore/storage", "vdfs/vdcore/contents", "vdfs/vdcore/evidence", "vdfs/vdcore/machine", "vdfs/formats/all", "vdfs/internal/picture", "vdfs/internal/selftest", "vdfs/internal/shell"},
		"vdfs/internal/picture": {},
		"vdfs/internal/shell":   {},
		"vdfs/fs":               {"vdfs/vdcore", "vdfs/vdcore/storage", "vdfs/vdcore/contents", "vdfs/vdcore/evidence", "vdfs/fs/erofs", "vdfs/internal/shell"},
		"vdfs/fs/erofs":         {},
		"vdfs/vdcore":           {"vdfs/vdcore/storage", "vdfs/vdcore/vbox"},
		"vdfs/vdcore/vbox":      {},
		"vdfs/vdcore/storage":   {},
		"vdfs/vdcore/contents":  {},
		"vdfs/vdcore/machine":   {"vdfs/vdcore", "vdfs/vdcore/storage", "vdfs/vdcore/vbox", "vdfs/internal/shell"},
		"vdfs/vdcore/imgops":    {"vdfs/vdcore", "vdfs/vdcore/storage"},
		// Images in use, and the promises about them.
		"vdfs/vdcore/evidence":   {"vdfs/vdcore", "vdfs/vdcore/storage"},
		"vdfs/internal/selftest": {"vdfs/fs", "vdfs/vdcore/imgops", "vdfs/vdcore", "vdfs/vdcore/storage"},
		// Seams for tests: each stands on storage alone.
		"vdfs/vdcore/storage/crashfs": {"vdfs/vdcore/storage"},
		"vdfs/vdcore/storage/faultfs": {"vdfs/vdcore/storage"},
		"vdfs/vdcore/vdtest":          {"vdfs/vdcore", "vdfs/vdcore/storage", "vdfs/vdcore/storage/crashfs", "vdfs/vdcore/storage/faultfs"},
		"vdfs/formats/all":            nil, // any format, nothing else: below
		"vdfs/integration":            {},
		"vdfs/internal/manual":        {"vdfs/internal/cli", "vdfs/vdcore"},
		"vdfs/bench":                  {"vdfs/vdcore/vdtest"}, // writes long chains
	}
	out := tool(t, "go", "list", "-f", `{{.ImportPath}}: {{join .Imports " "}}`, "vdfs/...")
	for line := range strings.Lines(out) {
		pkg, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		want, known := allowed[pkg]
		for _, imp := range strings.Fields(imports) {
			if imp == "github.com/hanwen/go-fuse/v2/fs" && pkg != "vdfs/fs" {
				t.Errorf("%s imports go-fuse", pkg)
			}
			if imp != "vdfs" && !strings.HasPrefix(imp, "vdfs/") {
				continue
			}
			switch {
			case pkg == "vdfs/formats/all":
				if !strings.HasPrefix(imp, "vdfs/formats/") {
					t.Errorf("%s imports %s", pkg, imp)
				}
			case strings.HasPrefix(pkg, "vdfs/formats/"):
				if imp != "vdfs/vdcore" && imp != "vdfs/vdcore/storage" {
					t.Errorf("%s imports %s", pkg, imp)
				}
			case !known:
				t.Errorf("%s is a room nobody has drawn arrows for", pkg)
			case !slices.Contains(want, imp):
				t.Errorf("%s imports %s", pkg, imp)
			}
		}
	}
}
