package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"vdfs/vdcore/vdtest"
)

// partition is one as vdfs tells of it.
type partition struct {
	Number             int
	Start, Size        int64
	Type, Name, UUID   string
	TypeID             string `json:"type_id"`
	Bootable, Extended bool
	Content            *content
}

type content struct{ Type, Label, UUID string }

type diskContents struct {
	Table      string
	TableID    string `json:"table_id"`
	SectorSize int64  `json:"sector_size"`
	Partitions []partition
	Content    *content
	Notes      []string
}

func contentsOf(t *testing.T, img string) diskContents {
	t.Helper()
	var info struct{ Contents diskContents }
	parse(t, must(t, "info", "--json", img), &info)
	return info.Contents
}

// layout is a disk as partitioned by a tool. %s is the disk.
type layout struct {
	name    string
	sector  int64 // 4096: on a loop device with such sectors
	table   string
	script  string
	numbers []int // that have files
	note    string
}

const layoutDisk = 64 << 20

var layouts = []layout{
	{"sgdisk", 512, "gpt", `sgdisk -n 1:0:+4M -t 1:ef00 -c 1:"EFI äöü" -A 1:set:2 -n 3:0:+8M -n 128:40M:+5000 -t 128:8200 %[1]s`, []int{1, 3, 128}, ""},
	{"sfdisk-gpt", 512, "gpt", `printf 'label: gpt\nsize=4MiB,type=U,bootable\nsize=1000\ntype=L,name="the rest"\n' | sfdisk -q --no-reread --no-tell-kernel %[1]s`, []int{1, 2, 3}, ""},
	{"parted-gpt", 512, "gpt", `parted -s %[1]s mklabel gpt mkpart one ext4 1MiB 9MiB mkpart two fat32 20MiB 30MiB mkpart three ntfs 9MiB 10MiB rm 1`, []int{2, 3}, ""},
	{"sfdisk-logicals", 512, "mbr", `printf 'label: dos\nx1: size=4MiB,type=c,bootable\nx2: size=20MiB,type=f\nx5: size=2MiB\nx6: size=3MiB,type=82\nx7: size=1001,type=7\nx3: size=2048,start=100000\n' | sfdisk -q --no-reread --no-tell-kernel %[1]s`, []int{1, 3, 5, 6, 7}, ""},
	{"parted-logicals", 512, "mbr", `parted -s %[1]s mklabel msdos mkpart primary ext4 1MiB 5MiB mkpart extended 10MiB 100%% mkpart logical 11MiB 15MiB mkpart logical 16MiB 20MiB mkpart logical 21MiB 30MiB rm 5`, []int{1, 5, 6}, ""},
	{"hybrid", 512, "gpt", `sgdisk -n 1:0:+4M -n 2:0:+8M -t 2:0700 -n 3:0:0 -h 1:2 %[1]s`, []int{1, 2, 3}, "hybrid"},
	{"sgdisk-4k", 4096, "gpt", `sgdisk -n 1:0:+4M -n 2:0:+8M -n 7:0:0 %[1]s`, []int{1, 2, 7}, ""},
	{"sfdisk-4k", 4096, "mbr", `printf 'label: dos\nx1: size=8MiB\nx2: size=40MiB,type=5\nx5: size=2MiB\nx6: size=3MiB,type=82\n' | sfdisk -q --no-reread --no-tell-kernel %[1]s`, []int{1, 5, 6}, "4096"},
	{"parted-4k", 4096, "gpt", `parted -s %[1]s mklabel gpt mkpart one ext4 1MiB 9MiB mkpart two fat32 20MiB 30MiB`, []int{1, 2}, ""},
}

// make partitions a new disk that has something everywhere, and returns what sfdisk
// then says of it.
func (l layout) make(t *testing.T, disk string) sfdiskTable {
	t.Helper()
	for _, tool := range words("sgdisk sfdisk parted mkfs.ext4") {
		needTool(t, tool)
	}
	writeFile(t, disk, nil)
	if err := os.Truncate(disk, layoutDisk); err != nil {
		t.Fatal(err)
	}
	r := rand.NewChaCha8([32]byte{byte(len(l.name))})
	p := make([]byte, 96<<10)
	for off := int64(2 << 20); off < layoutDisk-2<<20; off += 1 << 20 {
		r.Read(p)
		change(t, disk, p, off)
	}
	if l.name == "sfdisk-4k" { // an MBR says nothing of sectors: something must lie in the first partition
		tool(t, "mkfs.ext4", "-q", "-F", "-E", "offset=1048576", disk, "8M")
	}
	dev := disk
	if l.sector == 4096 {
		needRoot(t)
		dev = strings.TrimSpace(tool(t, "losetup", "--show", "-f", "--sector-size", "4096", disk))
		defer tool(t, "losetup", "-d", dev)
	}
	tool(t, "sh", "-ec", fmt.Sprintf(l.script, dev))
	return sfdisk(t, dev)
}

type sfdiskTable struct {
	Label, ID  string
	SectorSize int64 `json:"sectorsize"`
	Partitions []sfdiskPartition
}

type sfdiskPartition struct {
	Node             string
	Start, Size      int64
	Type, UUID, Name string
	Bootable         bool
	Attrs            string
}

func sfdisk(t *testing.T, dev string) sfdiskTable {
	t.Helper()
	var out struct{ PartitionTable sfdiskTable }
	parse(t, tool(t, "sfdisk", "--json", dev), &out)
	for i := range out.PartitionTable.Partitions {
		p := &out.PartitionTable.Partitions[i]
		p.Node = strings.TrimPrefix(strings.TrimPrefix(p.Node, dev), "p")
	}
	return out.PartitionTable
}

// TestPartitions: for disks partitioned by sgdisk, sfdisk and parted, as raw, VDI and
// VMDK and below a snapshot, vdfs finds what sfdisk finds, and the files of partitions
// are those ranges of the disk.
func TestPartitions(t *testing.T) {
	for i, l := range layouts {
		formats := words("raw vdi")
		if i%4 == 0 {
			formats = words("raw vdi vmdk stream")
		}
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			disk := filepath.Join(dir, "disk.raw")
			want := l.make(t, disk)
			got := contentsOf(t, disk)
			l.compare(t, got, want)
			if l.table == "gpt" && l.sector == 512 {
				compareSgdisk(t, disk, got)
			}
			for _, to := range formats {
				img := disk
				switch to {
				case "raw":
				case "stream":
					img = filepath.Join(dir, "stream.vmdk")
					must(t, "convert", disk, img, "--variant", "stream")
				default:
					img = filepath.Join(dir, "image."+to)
					must(t, "convert", disk, img)
				}
				mnt := mount(t, img)
				comparePartitions(t, filepath.Join(mnt, stem(img)), "disk.raw", disk, got)
				l.names(t, filepath.Join(mnt, stem(img)))
			}
			l.snapshot(t, filepath.Join(dir, "image.vdi"), disk, got)
		})
	}
}

// compare holds vdfs to what sfdisk says.
func (l layout) compare(t *testing.T, got diskContents, want sfdiskTable) {
	t.Helper()
	labels := map[string]string{"dos": "mbr", "gpt": "gpt"}
	if got.Table != labels[want.Label] || got.Table != l.table || !strings.EqualFold(got.TableID, want.ID) || got.SectorSize != l.sector {
		t.Errorf("%s %s in sectors of %d; sfdisk: %s %s", got.Table, got.TableID, got.SectorSize, want.Label, want.ID)
	}
	if len(got.Partitions) != len(want.Partitions) {
		t.Fatalf("%+v; sfdisk: %+v", got.Partitions, want.Partitions)
	}
	for i, w := range want.Partitions {
		g := got.Partitions[i]
		kind := strings.ToLower(w.Type)
		if l.table == "mbr" {
			kind = fmt.Sprintf("0x%02s", w.Type)
		}
		boot := w.Bootable || strings.Contains(w.Attrs, "LegacyBIOSBootable")
		if fmt.Sprint(g.Number) != w.Node || g.Start != w.Start*l.sector || g.Size != w.Size*l.sector ||
			g.TypeID != kind || g.Name != w.Name || g.Bootable != boot || w.UUID != "" && !strings.EqualFold(g.UUID, w.UUID) {
			t.Errorf("%+v; sfdisk: %+v", g, w)
		}
		if g.Type == "" {
			t.Errorf("no word for type %s", g.TypeID)
		}
	}
	if notes := strings.Join(got.Notes, "\n"); !strings.Contains(notes, l.note) || l.note == "" && notes != "" {
		t.Errorf("notes: %q", notes)
	}
}

var sgdiskLine = regexp.MustCompile(`(?m)^\s+(\d+)\s+(\d+)\s+(\d+)\s`)

// compareSgdisk does so with what gdisk's own parser says.
func compareSgdisk(t *testing.T, disk string, got diskContents) {
	t.Helper()
	lines := sgdiskLine.FindAllStringSubmatch(tool(t, "sgdisk", "-p", disk), -1)
	if len(lines) != len(got.Partitions) {
		t.Errorf("sgdisk finds %d partitions, vdfs %d", len(lines), len(got.Partitions))
	}
	for _, line := range lines {
		number, _ := strconv.Atoi(line[1])
		i := slices.IndexFunc(got.Partitions, func(p partition) bool { return p.Number == number })
		if i < 0 {
			t.Errorf("no partition %d", number)
			continue
		}
		p := got.Partitions[i]
		if line[2] != fmt.Sprint(p.Start/512) || line[3] != fmt.Sprint((p.Start+p.Size)/512-1) {
			t.Errorf("%+v; sgdisk: %v", p, line)
		}
		for _, id := range []string{p.TypeID, p.UUID} {
			if out := tool(t, "sgdisk", "-i", line[1], disk); !strings.Contains(out, strings.ToUpper(id)) {
				t.Errorf("%s is not in what sgdisk says: %s", id, out)
			}
		}
	}
}

// comparePartitions compares the files beside name in a folder with the ranges of a
// plain file.
func comparePartitions(t *testing.T, folder, name, disk string, c diskContents) {
	t.Helper()
	for _, p := range c.Partitions {
		if p.Extended {
			continue
		}
		file := fmt.Sprintf("p%d.raw", p.Number)
		if name != "disk.raw" {
			file = filepath.Join(strings.TrimSuffix(name, ".raw"), file)
		}
		check(t, filepath.Join(folder, file), p.Size, sumRange(t, disk, p.Start, p.Size))
	}
}

func sumRange(t *testing.T, path string, off, n int64) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if got, err := io.Copy(h, io.NewSectionReader(f, off, n)); got != n {
		t.Fatalf("%s: %d bytes, %v", path, got, err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// names: exactly the partitions that hold something are listed.
func (l layout) names(t *testing.T, folder string) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(folder, "p*.raw"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, n := range l.numbers {
		want = append(want, filepath.Join(folder, fmt.Sprintf("p%d.raw", n)))
	}
	slices.Sort(want)
	if !slices.Equal(list, want) {
		t.Errorf("%q, want %q", list, want)
	}
}

// snapshot changes the disk in a layer on top, table included, and looks at both states.
func (l layout) snapshot(t *testing.T, base, disk string, before diskContents) {
	t.Helper()
	top := filepath.Join(filepath.Dir(base), "top.vdi")
	must(t, "snapshot", base, top)
	after := filepath.Join(t.TempDir(), "disk.raw")
	tool(t, "cp", disk, after)
	p := before.Partitions[0]
	p.Size /= 2
	marks := make([]byte, 100<<10)
	rand.NewChaCha8([32]byte{99}).Read(marks)
	mnt := t.TempDir()
	mountAt(t, mnt, "--rw", top)
	for _, path := range []string{after, filepath.Join(mnt, "top", "disk.raw")} {
		change(t, path, marks, p.Start+p.Size)
		if l.sector == 512 {
			tool(t, "sfdisk", "-q", "--no-reread", "--no-tell-kernel", "--delete", path, fmt.Sprint(l.numbers[len(l.numbers)-1]))
		}
	}
	must(t, "umount", mnt)
	mnt = mount(t, top)
	now := contentsOf(t, top)
	if missing := len(before.Partitions) - len(now.Partitions); l.sector == 512 && missing != 1 {
		t.Errorf("%d partitions are gone, of one that was deleted", missing)
	}
	folder := filepath.Join(mnt, "top")
	comparePartitions(t, folder, "disk.raw", after, now)
	comparePartitions(t, filepath.Join(folder, "snapshots"), "0-image.raw", disk, before)
}

// TestGoldenTables: the two raw disks of the corpus.
func TestGoldenTables(t *testing.T) {
	for name, want := range map[string]struct {
		sum, parts string
	}{
		"raw-gpt":     {"78404dbaf22e1a58b53d4e3c8dee0b4aee4803d4c86ff112570b656f366058a9", "1:1048576+24099840"},
		"raw-gpt-4kn": {"01c49df2c2559cd56297f81675958ba24d68028f8c06af61d6dd9ebf8b734e37", "1:1048576+8388608 2:9437184+15708160"},
	} {
		dir := t.TempDir()
		vdtest.Unpack(t, name+".tar.gz", dir)
		disk := filepath.Join(dir, "disk.raw")
		check(t, disk, 24<<20, want.sum)
		c := contentsOf(t, disk)
		var parts []string
		for _, p := range c.Partitions {
			parts = append(parts, fmt.Sprintf("%d:%d+%d", p.Number, p.Start, p.Size))
		}
		if got := strings.Join(parts, " "); got != want.parts {
			t.Errorf("%s: %s", name, got)
		}
		mnt := mount(t, disk)
		comparePartitions(t, filepath.Join(mnt, "disk"), "disk.raw", disk, c)
	}
}

// TestBackupTable: the primary GPT is overwritten; the backup shows the same, and it is
// said.
func TestBackupTable(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk.raw")
	layouts[0].make(t, disk)
	before := contentsOf(t, disk)
	change(t, disk, make([]byte, 8192), 512)
	after := contentsOf(t, disk)
	if !slices.Equal(before.Partitions, after.Partitions) || len(after.Partitions) != 3 || !strings.Contains(strings.Join(after.Notes, ""), "backup") {
		t.Errorf("%+v\n%+v", before, after)
	}
	mnt := mount(t, disk)
	comparePartitions(t, filepath.Join(mnt, "disk"), "disk.raw", disk, before)
	if text, err := os.ReadFile(filepath.Join(mnt, "disk", "info.json")); err != nil || !strings.Contains(string(text), "backup copy") {
		t.Errorf("info.json: %v, %s", err, text)
	}
}

// TestNoTable: a disk without a table mounts, and says so.
func TestNoTable(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk.raw")
	writeFile(t, disk, make([]byte, 1<<20))
	mnt := mount(t, disk)
	var info struct{ Contents diskContents }
	text, err := os.ReadFile(filepath.Join(mnt, "disk", "info.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &info); err != nil || info.Contents.Table != "" || !strings.Contains(strings.Join(info.Contents.Notes, ""), "no partition table") {
		t.Errorf("%v: %s", err, text)
	}
	if list, _ := filepath.Glob(filepath.Join(mnt, "disk", "p*.raw")); len(list) != 0 {
		t.Errorf("%q", list)
	}
	if _, err := os.Stat(filepath.Join(mnt, "disk", "p1.raw")); !os.IsNotExist(err) {
		t.Errorf("p1.raw: %v", err)
	}
	if out := must(t, "info", disk); !strings.Contains(out, "no partition table") {
		t.Errorf("info: %s", out)
	}
}

// TestPartitionByKernel: partitions are read past the daemon where disks are, an
// opening without that would fail; O_DIRECT beside it goes the other way.
func TestPartitionByKernel(t *testing.T) {
	needRoot(t)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	layouts[0].make(t, disk)
	img := filepath.Join(t.TempDir(), "image.vdi")
	must(t, "convert", disk, img)
	mnt := t.TempDir()
	if r := vdfs(t, "mount", "--kernel-reads=require", img, mnt); r.code != 0 {
		skip(t, "the kernel cannot read disks here: %s", r.stderr)
	}
	defer must(noContext{t}, "umount", mnt)
	p := contentsOf(t, img).Partitions[1]
	file := filepath.Join(mnt, "image", "p3.raw")
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := sumRange(t, disk, p.Start, p.Size)
	check(t, file, p.Size, want)
	if got := strings.Fields(tool(t, "sh", "-c", `dd if="$0" iflag=direct bs=64k status=none | sha256sum`, file))[0]; got != want {
		t.Errorf("by O_DIRECT: %s", got)
	}
}
