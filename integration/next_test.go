package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var nextMount = regexp.MustCompile(`(?m)^  (mount -t (\w+) .* /inside)`)

// TestNextSteps: what info tells to copy mounts what is there, for every file system
// that this kernel has, and changes nothing.
func TestNextSteps(t *testing.T) {
	needLoop(t)
	kernel := readFile(t, "/proc/filesystems")
	for _, s := range specimens {
		dir := t.TempDir()
		img := filepath.Join(dir, "image.raw")
		if !slices.Contains(words("ext2 ext3 ext4 xfs btrfs erofs"), s.name) {
			continue
		}
		if !strings.Contains(kernel, "\t"+s.kind+"\n") {
			t.Logf("this kernel has no %s", s.kind)
			continue
		}
		s.write(t, img)
		before := sum(t, img)
		found := nextMount.FindStringSubmatch(must(t, "info", img))
		if found == nil || found[2] != s.kind {
			t.Errorf("%s: no command", s.name)
			continue
		}
		mnt, inside := mount(t, img), t.TempDir()
		line := strings.ReplaceAll(strings.ReplaceAll(found[1], "/mnt/", mnt+"/"), "/inside", inside)
		tool(t, "sh", "-ec", line)
		if !mounted(t, inside) {
			t.Errorf("%s: %s", s.name, line)
			continue
		}
		leave(t, inside)
		must(t, "umount", mnt)
		if sum(t, img) != before {
			t.Errorf("%s changed", s.name)
		}
	}
}

// TestMountTells: on a terminal mount says what can be done next, and nowhere else.
func TestMountTells(t *testing.T) {
	needFUSE(t)
	needTool(t, "script")
	img, mnt := filepath.Join(demoChain(t), "updated.vdi"), t.TempDir()
	r := command(t, nil, "script", "-qec", vdfsBinary+" mount "+img+" "+mnt, os.DevNull)
	must(t, "umount", mnt)
	for _, want := range []string{"losetup -r -P --show -f " + mnt + "/updated/disk.raw", mnt + "/updated/p1.raw /inside"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in %q", want, r.stdout)
		}
	}
	file := filepath.Join(t.TempDir(), "disk")
	writeFile(t, file, nil)
	r = command(t, nil, "script", "-qec", vdfsBinary+" mount "+img+" "+file, os.DevNull)
	must(t, "umount", file)
	if !strings.Contains(r.stdout, "losetup -r -P --show -f "+file) || strings.Contains(r.stdout, "p1.raw") {
		t.Errorf("over a file: %q", r.stdout)
	}
	if r := mountAt(t, mnt, img); r.stdout != "" {
		t.Errorf("without a terminal: %q", r.stdout)
	}
}
