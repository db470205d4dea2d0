package integration

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	// guestDisk is the smallest that mkfs.xfs takes, and some; partStart and partSize
	// are its one partition.
	guestDisk = 320 << 20
	partStart = 1 << 20
	partSize  = guestDisk - 2<<20
)

// guest is a file system, as its own tools make, mount and judge it.
type guest struct {
	name, kind string // kind is the partition's type
	mkfs       []string
	mount      []string
	readOnly   []string // mount as it lies on disk: no journal replayed
	fsck       []string // changes nothing, and fails when the file system is not clean
}

var guests = []guest{
	{"ext4", "83", words("mkfs.ext4 -q"), words("mount"), words("mount -o ro,noload"), words("e2fsck -fn")},
	{"xfs", "83", words("mkfs.xfs -q"), words("mount"), words("mount -o ro,norecovery"), words("xfs_repair -n")},
	{"ntfs", "7", words("mkntfs -q -F -Q -p 2048 -H 255 -S 63"), words("ntfs-3g"), words("ntfs-3g -o ro"), words("ntfsfix -n")},
}

func words(s string) []string { return strings.Fields(s) }

// with runs one of a guest's tools on a device and what follows it.
func with(t testing.TB, cmd []string, more ...string) {
	t.Helper()
	tool(t, cmd[0], append(cmd[1:len(cmd):len(cmd)], more...)...)
}

// TestGuests: file systems made and used on a partition of a writable mount are
// clean and whole for their own tools afterwards, and for QEMU; fstrim makes the
// image smaller, and a parent stays as it is.
func TestGuests(t *testing.T) {
	needRoot(t)
	for _, c := range words("losetup sfdisk fstrim tar qemu-img") {
		needTool(t, c)
	}
	tree := filepath.Join(strings.TrimSpace(tool(t, "go", "env", "GOROOT")), "src/cmd/internal")
	if _, err := os.Stat(tree); err != nil {
		skip(t, "Go came without its sources: %v", err)
	}
	for _, format := range []string{"vdi", "vmdk"} {
		for depth := 1; depth <= 2; depth++ {
			for _, g := range guests {
				t.Run(fmt.Sprintf("%s-%d-%s", format, depth, g.name), func(t *testing.T) {
					t.Parallel()
					g.needed(t)
					g.lifetime(t, tree, format, depth)
				})
			}
		}
	}
}

func (g guest) needed(t *testing.T) {
	t.Helper()
	for _, cmd := range [][]string{g.mkfs, g.mount, g.fsck} {
		needTool(t, cmd[0])
	}
}

// lifetime fills a disk layer by layer, and looks at what came of it.
func (g guest) lifetime(t *testing.T, tree, format string, depth int) {
	dir := t.TempDir()
	img := filepath.Join(dir, "base."+format)
	tool(t, "qemu-img", "create", "-q", "-f", format, img, fmt.Sprint(guestDisk))
	parents := func() {}
	var hash string
	var files map[string]string
	for layer := range depth {
		if layer > 0 {
			child := filepath.Join(dir, "child."+format)
			must(t, "snapshot", img, child)
			parents = unchanged(t, img)
			img = child
		}
		mnt := mount(t, "--rw", img)
		disk := filepath.Join(mnt, stem(img), "disk.raw")
		part := g.partition(t, disk, layer == 0)
		files = g.use(t, part, tree, layer, img)
		with(t, g.fsck, part)
		detach(t, part, disk)
		hash = sum(t, disk)
		must(t, "umount", mnt)
		parents()
	}
	g.judge(t, img, format, hash, files)
}

// partition attaches the disk's one partition by its offset, as not all kernels
// read partition tables; it makes it first if asked to.
func (g guest) partition(t *testing.T, disk string, blank bool) string {
	t.Helper()
	if blank {
		table := fmt.Sprintf("label: dos\nstart=%d, size=%d, type=%s\n", partStart/512, partSize/512, g.kind)
		script := filepath.Join(t.TempDir(), "table")
		writeFile(t, script, []byte(table))
		tool(t, "sh", "-c", `exec sfdisk -q --no-reread --no-tell-kernel "$1" <"$0"`, script, disk)
	}
	part := attachPart(t, disk)
	if blank {
		with(t, g.mkfs, part)
	}
	return part
}

// use changes the file system as a user would, and returns what is in it then.
func (g guest) use(t *testing.T, part, tree string, layer int, img string) map[string]string {
	t.Helper()
	inside := t.TempDir()
	g.mounted(t, part, inside)
	t.Cleanup(func() { // nothing to do unless the test failed
		if mounted(t, inside) {
			command(noContext{t}, nil, "umount", inside)
		}
	})
	dest := filepath.Join(inside, fmt.Sprint("layer", layer))
	if err := os.Mkdir(dest, 0o755); err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 48<<20)
	rand.NewChaCha8([32]byte{byte(layer)}).Read(random)
	if layer > 0 { // in the parent's files: one goes, one changes in the middle
		old := filepath.Join(inside, "layer0")
		change(t, filepath.Join(old, "keep"), random[:12345], 4567)
		if err := os.RemoveAll(filepath.Join(old, "internal", "obj")); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dest, "keep"), random[:4<<20])
	writeFile(t, filepath.Join(dest, "big"), random)
	untar(t, tree, dest)
	tool(t, "sync", "-f", inside)
	full := blocks(t, img)
	if err := os.Remove(filepath.Join(dest, "big")); err != nil {
		t.Fatal(err)
	}
	// XFS gives the space of removed files back in the background, and fstrim does not
	// wait for that; umount does.
	leave(t, inside)
	g.mounted(t, part, inside)
	tool(t, "fstrim", inside)
	files := contents(t, inside)
	leave(t, inside)
	tool(t, "sync", part)
	if trimmed := blocks(t, img); trimmed > full-(40<<20) {
		t.Errorf("layer %d took %d bytes, and %d after fstrim", layer, full, trimmed)
	}
	return files
}

// leave unmounts a file system. It may be in use for a moment as the mounts of
// endMount may: ask again.
func leave(t testing.TB, dir string) {
	t.Helper()
	for tries := 0; ; tries++ {
		r := command(t, nil, "umount", dir)
		if r.code == 0 {
			return
		} else if !strings.Contains(r.stderr, "busy") || tries == 50 {
			t.Fatalf("umount %s: %s", dir, r.stderr)
		}
	}
}

func (g guest) mounted(t *testing.T, part, inside string) {
	t.Helper()
	r := command(t, nil, g.mount[0], append(g.mount[1:len(g.mount):len(g.mount)], part, inside)...)
	if strings.Contains(r.stderr, "unknown filesystem type") {
		skip(t, "this kernel has no %s", g.name)
	}
	if r.code != 0 {
		t.Fatalf("mount of %s: exit %d\n%s", g.name, r.code, r.stderr)
	}
}

// judge looks at what is left of a disk as vdfs and QEMU read it.
func (g guest) judge(t *testing.T, img, format, hash string, files map[string]string) {
	t.Helper()
	must(t, "check", img)
	raw := filepath.Join(t.TempDir(), "disk")
	must(t, "copy", img, raw)
	if got := sum(t, raw); got != hash {
		t.Errorf("%s is copied as %s, and was %s", img, got, hash)
	}
	part := attachPart(t, raw, "-r")
	with(t, g.fsck, part)
	inside := t.TempDir()
	with(t, g.readOnly, part, inside)
	if got := contents(t, inside); !maps.Equal(got, files) {
		t.Errorf("%d files inside, and %d before, or not the same", len(got), len(files))
	}
	leave(t, inside)
	detach(t, part, raw)
	if format == "vdi" && stem(img) != "base" {
		return // QEMU reads no differencing VDI
	}
	tool(t, "qemu-img", "convert", "-f", format, "-O", "raw", img, raw)
	if got := sum(t, raw); got != hash {
		t.Errorf("QEMU reads %s as %s, and it was %s", img, got, hash)
	}
	tool(t, "qemu-img", "check", "-f", format, img)
}

// attachPart sets a loop device up over the partition in a file.
func attachPart(t *testing.T, file string, more ...string) string {
	t.Helper()
	args := []string{"-f", "--show", "-o", fmt.Sprint(partStart), "--sizelimit", fmt.Sprint(partSize), file}
	dev := strings.TrimSpace(tool(t, "losetup", append(more, args...)...))
	t.Cleanup(func() {
		if attached(noContext{t}, dev, file) { // else detach did it, and the device is somebody else's by now
			command(noContext{t}, nil, "losetup", "-d", dev)
		}
	})
	return dev
}

// detach returns when nothing holds the file any more: ntfs-3g has the device open
// for a moment after umount returned.
func detach(t *testing.T, dev, file string) {
	t.Helper()
	tool(t, "losetup", "-d", dev)
	for end := time.Now().Add(10 * time.Second); attached(t, dev, file); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is still attached", dev)
		}
	}
}

func attached(t testing.TB, dev, file string) bool {
	t.Helper()
	return strings.Contains(command(t, nil, "losetup", "-j", file).stdout, dev+":")
}

func untar(t *testing.T, tree, dest string) {
	t.Helper()
	tool(t, "sh", "-c", `tar -C "$0" -cf - "$1" | tar -C "$2" -xf -`, filepath.Dir(tree), filepath.Base(tree), dest)
}

func change(t *testing.T, path string, p []byte, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// contents are the hashes of all files below a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all[p] = sum(t, filepath.Join(dir, p))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
