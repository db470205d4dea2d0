package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"vdfs/fs"
	"vdfs/internal/shell"
	"vdfs/vdcore/contents"
)

// maxSteps bounds the commands told for one disk.
const maxSteps = 8

// steps are the commands to copy for what lies on a disk, to be read only. folder is
// where the files of partitions are; "" when there are none.
func steps(c contents.Contents, disk, folder string) []string {
	var list []string
	if c.Table != "" {
		sectors := ""
		if c.SectorSize != 512 {
			sectors = fmt.Sprintf(" --sector-size %d", c.SectorSize)
		}
		list = append(list, fmt.Sprintf("losetup -r -P --show -f%s %s", sectors, shell.Quote(disk)))
	}
	if c.Content != nil {
		list = append(list, stepsOf(c.Content, disk, "vdfs-disk")...)
	}
	for _, p := range c.Partitions {
		if p.Content != nil && folder != "" {
			file := fs.PartitionFile(p.Number)
			list = append(list, stepsOf(p.Content, filepath.Join(folder, file), strings.TrimSuffix("vdfs-"+file, ".raw"))...)
		}
	}
	if len(list) > maxSteps {
		list = append(list[:maxSteps:maxSteps], "# and so on for the other partitions")
	}
	return list
}

// readOnlyMount are the options of mount(8), beside ro and loop, with which a file
// system is mounted without its log being replayed onto it.
var readOnlyMount = map[string]string{
	"ext2": "", "ext3": ",noload", "ext4": ",noload",
	"xfs":   ",norecovery,nouuid", // nouuid: the same file system may be mounted from elsewhere
	"btrfs": ",rescue=nologreplay",
	"f2fs":  ",norecovery",
	"vfat":  "", "exfat": "", "iso9660": "", "squashfs": "", "erofs": "", "hfsplus": "",
}

// stepsOf are the commands for one file system or container in a file. name is for the
// mapping of an encrypted one.
func stepsOf(c *contents.Content, file, name string) []string {
	if o, ok := readOnlyMount[c.Type]; ok {
		return []string{fmt.Sprintf("mount -t %s -o ro,loop%s %s /inside", c.Type, o, shell.Quote(file))}
	}
	switch c.Type {
	case "ntfs":
		return []string{fmt.Sprintf("mount -t ntfs3 -o ro,loop %s /inside   # or: ntfs-3g -o ro …", shell.Quote(file))}
	case "crypto_LUKS":
		return []string{fmt.Sprintf("cryptsetup --readonly open %s %s", shell.Quote(file), name)}
	case "BitLocker":
		return []string{fmt.Sprintf("cryptsetup --readonly bitlkOpen %s %s", shell.Quote(file), name)}
	case "LVM2_member":
		return []string{
			fmt.Sprintf(`pv=$(losetup -r --show -f %s); vgs --devices "$pv"   # tells the group, VG below`, shell.Quote(file)),
			`vgchange -ay --devices "$pv" --config 'activation/read_only_volume_list=["VG"]' VG`,
		}
	}
	return nil
}

// printSteps prints commands, if there are any.
func printSteps(w io.Writer, list []string) error {
	if len(list) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nnext, as root:\n  %s\n", strings.Join(list, "\n  "))
	return err
}

// printNext tells on a terminal what can be done with what was just mounted.
func (r *mountRequest) printNext(c *cli.Context, server *fs.Server) {
	if c.Bool("quiet") || !term.IsTerminal(int(os.Stdout.Fd())) {
		return
	}
	var list []string
	for i, disk := range server.DiskFiles() {
		folder := filepath.Dir(disk)
		if disk == server.Mountpoint() {
			folder = ""
		}
		list = append(list, steps(contentsOf(r.disks[i].Chain), disk, folder)...)
	}
	if len(list) > maxSteps {
		list = append(list[:maxSteps], "# and so on; vdfs info tells of each image")
	}
	if err := printSteps(c.App.Writer, list); err != nil {
		log.Debug().Err(err).Msg("next steps")
	}
}
