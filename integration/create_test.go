package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// format is what vdfs formats says of one.
type format struct {
	Name         string
	Extensions   []string
	Capabilities struct{ Names []string }
	Create       []struct {
		Variant    string
		ImageFlags struct{ Names []string } `json:"image_flags"`
		Options    []string
	}
}

func formats(t *testing.T) []format {
	t.Helper()
	var list struct{ Formats []format }
	parse(t, must(t, "formats", "--json"), &list)
	return list.Formats
}

// TestCreate: every variant vdfs formats lists is made with all its options, says so,
// takes writes through a mount, and shows them to QEMU.
func TestCreate(t *testing.T) {
	needFUSE(t)
	needTool(t, "qemu-img")
	for _, f := range formats(t) {
		for _, v := range f.Create {
			if v.Variant == "differencing" {
				continue
			}
			t.Run(f.Name+"-"+v.Variant, func(t *testing.T) {
				t.Parallel()
				img := filepath.Join(t.TempDir(), "disk"+f.Extensions[0])
				id := "0f0e0d0c-0b0a-4908-8706-050403020100"
				given := map[string]string{"uuid": id, "comment": "Größe", "geometry": "9/8/7", "lchs": "6/5/4", "block-size": "1M"}
				m := newModel(5)
				clear(m.content)
				args := []string{"create", img, "--variant", v.Variant, "--size", fmt.Sprint(len(m.content))}
				for _, o := range v.Options {
					args = append(args, "--"+o, given[o])
				}
				must(t, args...)
				if slices.Contains(v.Options, "uuid") && identity(t, img) == "" {
					t.Error("no identity")
				}
				said := must(t, "info", "--json", img)
				for _, o := range v.Options {
					if want := given[o]; (o == "uuid" || o == "comment") && !strings.Contains(said, `"`+want+`"`) {
						t.Errorf("%s is not %s in %s", o, want, said)
					}
				}
				if names, _ := json.Marshal(v.ImageFlags.Names); !strings.Contains(strings.Join(strings.Fields(said), ""), string(names)) {
					t.Errorf("the flags are not %s in %s", names, said)
				}
				m.asQEMU(t, img, f.Name)
				if v.Variant == "stream" {
					return
				}
				mnt := mount(t, "--rw", img)
				m.scribble(t, filepath.Join(mnt, "disk", "disk.raw"), 20)
				must(t, "umount", mnt)
				m.asQEMU(t, img, f.Name)
				must(t, "check", img)
			})
		}
	}
}

// TestCreateCodes: what cannot be made, and why, by exit code; nothing is left.
func TestCreateCodes(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there.vdi")
	must(t, "create", "--size", "1M", there)
	for args, want := range map[string]int{
		"a.vdi":                              1, // no size
		"--size 0 a.vdi":                     1,
		"--size 1X a.vdi":                    1,
		"--size 513 a.vdi":                   1,
		"--size 8P a.vdi":                    1,
		"--size 99999999999999999999G a.vdi": 1,
		"--size 1M a.vhd":                    1,
		"--size 1M --variant thin a.vdi":     1,
		"--size 1M --block-size 1M a.vmdk":   1,
		"--size 1M --geometry 1/2 a.vdi":     1,
		"--size 1M --uuid x a.vdi":           1,
		"--size 1M there.vdi":                2,
		"--size 1M none/a.vdi":               2,
	} {
		words := strings.Fields(args)
		words[len(words)-1] = filepath.Join(dir, words[len(words)-1])
		r := vdfs(t, append([]string{"create"}, words...)...)
		if r.code != want || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("create %s: exit %d, want %d: %s", args, r.code, want, r.stderr)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left %v, %v", list, err)
	}
	must(t, "create", "--size", "2M", "--force", there)
	if !strings.Contains(must(t, "info", there), "2 MiB") {
		t.Error("not replaced")
	}
}

// TestCreateFull: a disk that is full half-way is exit code 7, one message, and no
// file.
func TestCreateFull(t *testing.T) {
	needRoot(t)
	small := t.TempDir()
	tool(t, "mount", "-t", "tmpfs", "-o", "size=100m", "none", small)
	t.Cleanup(func() { command(noContext{t}, nil, "umount", small) })
	for _, name := range []string{"disk.vdi", "disk.vmdk", "disk.raw"} {
		r := vdfs(t, "create", "--size", "200M", "--variant", "fixed", filepath.Join(small, name))
		list, err := os.ReadDir(small)
		if r.code != 7 || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "no space") || err != nil || len(list) > 0 {
			t.Errorf("%s: exit %d, %s, left %v, %v", name, r.code, r.stderr, list, err)
		}
	}
}
