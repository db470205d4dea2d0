package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vdfs/internal/cli"
	"vdfs/vdcore"
)

// rendered are the pages as man shows them, without hyphens at ends of lines.
func rendered(t *testing.T) map[string]string {
	t.Helper()
	dir, pages := t.TempDir(), map[string]string{}
	if err := run([]string{"1.2.3", "2026-01-02", "../../docs/man", dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vdfs.1", "mount.fuse.vdfs.8", "vdfs-formats.5"} {
		path := filepath.Join(dir, name)
		if _, err := exec.LookPath("groff"); err != nil {
			noTool(t, "groff")
		}
		cmd := exec.Command("groff", "-ww", "-man", "-Tutf8", "-P-cbou", "-rLL=2000n", "-rHY=0", path)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil || errs.Len() > 0 {
			t.Fatalf("groff %s: %v\n%s", name, err, errs.String())
		}
		pages[name] = string(out)
	}
	return pages
}

func noTool(t *testing.T, name string) {
	t.Helper()
	if os.Getenv("VDFS_NO_SKIP") != "" {
		t.Fatalf("%s is not installed, and VDFS_NO_SKIP is set", name)
	}
	t.Skipf("SKIP: %s is not installed (make deps)", name)
}

// TestEverythingIsThere: every command, flag, word of -o, format and variant is in its
// page.
func TestEverythingIsThere(t *testing.T) {
	pages := rendered(t)
	text := func(page string, words ...string) {
		t.Helper()
		for _, w := range words {
			w = strings.Join(strings.Fields(w), " ")
			if !strings.Contains(strings.Join(strings.Fields(pages[page]), " "), w) {
				t.Errorf("%s does not say %q", page, w)
			}
		}
	}
	sections := regexp.MustCompile(`(?m)^   vdfs `).Split(pages["vdfs.1"], -1)
	for _, c := range cli.App().VisibleCommands() {
		text("vdfs.1", "vdfs "+c.Name+" "+c.ArgsUsage, c.Usage, c.Description)
		for _, section := range sections {
			if !strings.HasPrefix(section, c.Name+" ") && !strings.HasPrefix(section, c.Name+"\n") {
				continue
			}
			for _, f := range c.VisibleFlags() {
				if !strings.Contains(section, "-"+f.Names()[0]) {
					t.Errorf("vdfs.1 does not say --%s of %s", f.Names()[0], c.Name)
				}
			}
		}
	}
	for _, w := range cli.MountWords() {
		text("mount.fuse.vdfs.8", w.Name, w.Usage)
	}
	for _, w := range cli.OtherWords() {
		text("mount.fuse.vdfs.8", strings.TrimSuffix(w, "="))
	}
	for _, b := range vdcore.Backends() {
		text("vdfs-formats.5", b.Name+": "+b.Title, strings.Join(b.Variants, ", "), strings.Join(b.Extensions, ", "))
		for _, m := range b.Makes {
			text("vdfs-formats.5", m.Name+" "+m.Variant)
		}
	}
}

// TestLint: mandoc finds nothing that matters.
func TestLint(t *testing.T) {
	if _, err := exec.LookPath("mandoc"); err != nil {
		noTool(t, "mandoc")
	}
	dir := t.TempDir()
	if err := run([]string{"1.2.3", "2026-01-02", "../../docs/man", dir}); err != nil {
		t.Fatal(err)
	}
	pages, _ := filepath.Glob(dir + "/*")
	out, _ := exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput()
	if len(out) > 0 || len(pages) != 3 {
		t.Errorf("%d pages:\n%s", len(pages), out)
	}
}
