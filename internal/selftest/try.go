package selftest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vdfs/fs"
	"vdfs/vdcore/imgops"
)

// try tries everything that needs the mount.
func (t *trial) try(ctx context.Context) error {
	if err := t.look(); err != nil {
		return err
	}
	t.table()
	t.descriptors()
	t.writes("")
	t.remount()
	t.loop()
	return t.reads(ctx)
}

func (t *trial) table() {
	e, err := fs.MountAt(t.mnt)
	fault := ""
	switch {
	case err != nil:
		fault = err.Error()
	case e == nil:
		fault = "it is not there"
	case !slices.Contains(strings.Split(e.Options, ","), "ro"):
		fault = "it says " + e.Options
	}
	t.tell("mount table says read-only", t.mnt, fault)
}

// descriptors looks whether the daemon has an image open for writing.
func (t *trial) descriptors() {
	const check = "image files are open for reading only"
	dir := fmt.Sprintf("/proc/%d", t.pid)
	list, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.skip(check, err.Error())
		return
	}
	var faults []string
	n := 0
	for _, e := range list {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, "fd", e.Name()), &st) != nil {
			continue
		}
		name := t.imageFile(&st)
		if name == "" {
			continue
		}
		n++
		if flags, ok := openFlags(filepath.Join(dir, "fdinfo", e.Name())); !ok || flags&unix.O_ACCMODE != unix.O_RDONLY {
			faults = append(faults, name+" is open for writing")
		}
	}
	t.tell(check, fmt.Sprintf("%d descriptors", n), faults...)
}

// imageFile names the file of an image that st is of, "" if it is of none.
func (t *trial) imageFile(st *unix.Stat_t) string {
	for _, i := range t.images {
		for _, f := range i.files {
			if f.stat.Dev == st.Dev && f.stat.Ino == st.Ino {
				return f.path
			}
		}
	}
	return ""
}

// openFlags reads the line "flags:" of an fdinfo file, octal.
func openFlags(fdinfo string) (flags int, ok bool) {
	text, _ := os.ReadFile(fdinfo)
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "flags:"); found {
			_, err := fmt.Sscanf(strings.TrimSpace(value), "%o", &flags)
			return flags, err == nil
		}
	}
	return 0, false
}

// remount makes the mount read-write, as root can, and tries again.
func (t *trial) remount() {
	const check = "remounted read-write"
	if os.Geteuid() != 0 {
		t.skip(check, "only root can")
		return
	}
	const flags = unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("", t.mnt, "", flags, ""); err != nil {
		t.tell(check, "refused: "+errnoName(err))
		return
	}
	t.writes(check + ", ")
	if err := unix.Mount("", t.mnt, "", flags|unix.MS_RDONLY, ""); err != nil {
		t.tell(check, "", "not read-only again: "+errnoName(err))
	}
}

// reads reads every disk of the mount, and sees how that goes.
func (t *trial) reads(ctx context.Context) error {
	for _, i := range t.images {
		folder := t.folder(i)
		names, err := disks(folder)
		if err != nil {
			return err
		}
		var faults []string
		for l, layer := range i.hashes.Layers {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			sum, err := hash(filepath.Join(folder, names[l]))
			switch {
			case err != nil:
				faults = append(faults, err.Error())
			case sum != layer.Disk[imgops.DefaultAlgorithm]:
				faults = append(faults, names[l]+" reads otherwise than without a mount")
			}
		}
		t.tell("reads of "+stem(i.path), fmt.Sprintf("SHA-256 of %d states as without a mount; %s", len(names), pathOf(folder)), faults...)
	}
	return nil
}

// folder is that of an image in the mount. One image has the only one, whatever its
// name became; those that are made have names that stay.
func (t *trial) folder(i *image) string {
	if len(t.images) == 1 {
		return t.dirs[1]
	}
	return filepath.Join(t.mnt, stem(i.path))
}

func stem(path string) string {
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
}

// told is what is wanted of info.json.
type told struct {
	Disk      string       `json:"disk"`
	Snapshots []string     `json:"snapshots"`
	Path      fs.PathTaken `json:"path"`
}

func info(folder string) (i told, err error) {
	text, err := os.ReadFile(filepath.Join(folder, "info.json"))
	if err == nil {
		err = json.Unmarshal(text, &i)
	}
	return i, err
}

// disks names the files of all states, base first.
func disks(folder string) ([]string, error) {
	i, err := info(folder)
	return append(i.Snapshots, i.Disk), err
}

// pathOf says how the bytes come.
func pathOf(folder string) string {
	i, err := info(folder)
	if err != nil {
		return err.Error()
	}
	if i.Path.Taken == fs.PathRequests {
		return "by requests: " + i.Path.Reason
	}
	return "by the kernel (" + i.Path.Taken + ")"
}

func hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// left looks for what the mount has left behind.
func (t *trial) left() {
	var faults []string
	for _, h := range fs.Holders(t.mnt) {
		faults = append(faults, h.String())
	}
	if e, _ := fs.MountAt(t.mnt); e != nil {
		faults = append(faults, "it is mounted")
	}
	if serves(t.pid) {
		faults = append(faults, fmt.Sprintf("process %d runs", t.pid))
	}
	t.tell("nothing is left", "no mount, no loop device, no process", faults...)
}

// serves reports whether a process runs; one that is over and waits to be reaped does
// not.
func serves(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}
