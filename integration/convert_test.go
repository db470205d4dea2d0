package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vdfs/vdcore/vdtest"
)

// TestConvertFull: when the target's file system is full nothing of it is left, and the
// source is as it was.
func TestConvertFull(t *testing.T) {
	needRoot(t)
	small := t.TempDir()
	tool(t, "mount", "-t", "tmpfs", "-o", "size=6m", "none", small)
	t.Cleanup(func() { command(noContext{t}, nil, "umount", small) })
	dir := t.TempDir()
	from := filepath.Join(dir, "disk.raw")
	m := newModel(5)
	content := make([]byte, 12<<20)
	m.fill(content)
	writeFile(t, from, content)
	before := sum(t, from)
	for _, variant := range []string{"vdi", "vdi fixed", "vmdk", "vmdk split2g", "vmdk esx", "vmdk stream", "raw", "raw fixed"} {
		format, name, _ := strings.Cut(variant, " ")
		args := []string{"convert", from, filepath.Join(small, "new."+format)}
		if name != "" {
			args = append(args, "--variant", name)
		}
		r := vdfs(t, args...)
		left, err := os.ReadDir(small)
		if r.code != 7 || !strings.Contains(r.stderr, "no space") || len(left) != 0 || err != nil {
			t.Errorf("%s: exit %d, %s, left are %v, %v", variant, r.code, r.stderr, left, err)
		}
	}
	if sum(t, from) != before {
		t.Error("the source changed")
	}
}

// TestConvertCommand: what the command line adds: checksums, stdout, exit codes.
func TestConvertCommand(t *testing.T) {
	dir, out := unpack(t, "vmdk-diff3.tar.gz"), t.TempDir()
	var golden vdtest.Case
	for _, c := range vdtest.Cases(t) {
		if c.Archive == "vmdk-diff3.tar.gz" {
			golden = c
		}
	}
	top := filepath.Join(dir, golden.Layers[0].File)
	want := "sha256 " + golden.Layers[0].SHA256
	vmdk := filepath.Join(out, "a.vmdk")
	if got := must(t, "convert", top, vmdk, "--variant", "stream", "--checksum", "sha256"); got != want+" "+vmdk+"\n" {
		t.Errorf("it says %q", got)
	}
	r := vdfs(t, "convert", top, "-", "--checksum=sha256")
	if !strings.HasPrefix(r.stderr, want) || int64(len(r.stdout)) != golden.Layers[0].Capacity {
		t.Errorf("%d bytes, %q", len(r.stdout), r.stderr)
	}
	if got := strings.Count(must(t, "convert", top, filepath.Join(out, "chain"), "--keep-chain", "--to=vmdk", "--checksum=sha256"), "sha256 "); got != len(golden.Layers) {
		t.Errorf("%d checksums", got)
	}
	must(t, "compare", top, vmdk)
	must(t, "diff", "--ddrescue", top)
	for _, c := range []struct {
		code int
		args []string
	}{
		{2, []string{"convert", top, vmdk}},
		{2, []string{"convert", top, top, "--force"}},
		{0, []string{"convert", top, vmdk, "--force"}},
		{1, []string{"convert", top, vmdk, "--force", "--no-sync"}},
		{0, []string{"convert", top, filepath.Join(out, "unsynced.vdi"), "--no-sync"}},
		{0, []string{"convert", top, filepath.Join(out, "unsynced"), "--keep-chain", "--to", "vdi", "--no-sync"}},
		{0, []string{"copy", top, filepath.Join(out, "unsynced.raw"), "--no-sync"}},
		{0, []string{"compare", top, filepath.Join(out, "unsynced.vdi")}},
		{0, []string{"compare", top, filepath.Join(out, "unsynced.raw")}},
		{1, []string{"convert", top, filepath.Join(out, "a.qcow2")}},
		{1, []string{"convert", top, filepath.Join(out, "b.vdi"), "--to", "qcow2"}},
		{1, []string{"convert", top, filepath.Join(out, "b.vdi"), "--checksum", "md5"}},
		{1, []string{"convert", top, filepath.Join(out, "b"), "--keep-chain"}},
		{1, []string{"convert", top, filepath.Join(out, "b"), "--keep-chain", "--to", "vmdk", "--force"}},
		{1, []string{"convert", top, filepath.Join(out, "b"), "--keep-chain", "--to", "raw"}},
		{1, []string{"convert", top, filepath.Join(out, "b.vdi"), "--variant", "esx"}},
		{1, []string{"create", "--size", "1M", filepath.Join(out, "b.vdi"), "--variant", "esx"}},
		{9, []string{"compare", top, filepath.Join(dir, golden.Layers[1].File)}},
		{9, []string{"compare", "--json", top, filepath.Join(dir, golden.Layers[1].File)}},
		{1, []string{"diff", "--from", "9", top}},
		{1, []string{"diff", vmdk}},
	} {
		if r := vdfs(t, c.args...); r.code != c.code {
			t.Errorf("%v: exit %d, want %d\n%s", c.args, r.code, c.code, r.stderr)
		}
	}
	if r := vdfs(t, "copy", top, vmdk); r.code != 2 || strings.Contains(r.stderr, "--force") {
		t.Errorf("copy onto an image: exit %d, %s", r.code, r.stderr)
	}
}
