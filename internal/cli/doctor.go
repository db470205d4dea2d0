package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "say what works on this machine, and how to mend what does not",
		Description: "Looks at what mounting needs, and mounts a tiny image in each of the ways a disk can be\n" +
			"read. \"ok\" works, \"note\" is something one can do without, \"FAIL\" keeps vdfs from mounting;\n" +
			"what mends it is on the line below. The exit code is 0 if mounting works, and else 6.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: runDoctor,
	}
}

// The states of a finding.
const (
	healthy = "ok"
	noted   = "note" // vdfs does without
	failing = "FAIL" // mounting does not work
)

// finding is one line of the doctor's.
type finding struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"` // what to do, a command where one will do
}

func runDoctor(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	var list []finding
	for _, look := range surroundings {
		list = append(list, look())
	}
	tried, mounts := tryMounts(c.Context)
	list = append(list, tried...)
	var err error
	if c.Bool("json") {
		err = printJSON(c.App.Writer, map[string]any{"schema": 1, "mounts": mounts, "checks": list})
	} else {
		err = printFindingsOf(c.App.Writer, list)
	}
	if err == nil && !mounts {
		err = fmt.Errorf("%w here; the lines with FAIL say why", errFUSE)
	}
	return err
}

func printFindingsOf(out io.Writer, list []finding) error {
	styles := map[string]style{healthy: green, noted: yellow, failing: red}
	table := [][]cell{}
	for _, f := range list {
		table = append(table, []cell{{text: f.State, style: styles[f.State]}, {text: f.Name}, {text: clean(f.Text)}})
		if f.Fix != "" {
			table = append(table, []cell{{}, {}, {text: "to mend it: " + clean(f.Fix)}})
		}
	}
	return newPage(out).table(table)
}

// trial is a mount that is tried.
type trial struct {
	name, image, kernelReads string
	worse                    string // the state if it fails
	fix                      string
}

// tryMounts mounts images of some hundred kilobytes, each in a way of its own, and
// reports whether the plainest worked.
func tryMounts(ctx context.Context) (list []finding, mounts bool) {
	dir, content, err := trialImages(ctx)
	if err != nil {
		return []finding{{"mounting", failing, err.Error(), "have room in a folder for temporary files: TMPDIR=DIR vdfs doctor"}}, false
	}
	defer os.RemoveAll(dir)
	trials := []trial{
		{"mounting", "trial.vdi", kernelOff, failing, "see the other lines; vdfs -v mount tells more"},
		{"reads by the kernel, images", "trial.vdi", kernelRequire, noted, "be root, with Linux 6.12 or newer and EROFS (modprobe erofs); without, vdfs answers each read"},
		{"reads by the kernel, raw disks", "trial.raw", kernelRequire, noted, "be root, with Linux 6.9 or newer; without, vdfs answers each read"},
	}
	for i, t := range trials {
		f := finding{Name: t.name, State: healthy, Text: "a tiny image was mounted and read"}
		began := time.Now()
		if err := t.run(dir, content); err != nil {
			f.State, f.Text, f.Fix = t.worse, err.Error(), t.fix
		} else {
			f.Text += fmt.Sprintf(", in %d ms", time.Since(began).Milliseconds())
		}
		list = append(list, f)
		if i == 0 && f.State != healthy {
			return list, false // the others would say the same
		}
	}
	return list, true
}

// trialImages makes a raw image and a VDI of the same content, and a mountpoint, in a
// new folder.
func trialImages(ctx context.Context) (dir string, content []byte, err error) {
	if dir, err = os.MkdirTemp(tempDir(), "vdfs-doctor-"); err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	content = make([]byte, 256<<10)
	rand.Read(content)
	raw := filepath.Join(dir, "trial.raw")
	if err := errors.Join(os.WriteFile(raw, content, 0o600), os.Mkdir(filepath.Join(dir, "mnt"), 0o700)); err != nil {
		return "", nil, err
	}
	chain, err := vdcore.Open(raw, vdcore.Options{Format: "raw"})
	if err != nil {
		return "", nil, err
	}
	_, err = imgops.Convert(ctx, chain, filepath.Join(dir, "trial.vdi"), imgops.Conversion{})
	return dir, content, errors.Join(err, chain.Close())
}

// run mounts, reads and unmounts. Another process serves: this one must not read what it
// serves itself.
func (t trial) run(dir string, content []byte) error {
	mnt := filepath.Join(dir, "mnt")
	if err := itself("mount", "--kernel-reads="+t.kernelReads, filepath.Join(dir, t.image), mnt); err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(mnt, "trial", "disk.raw"))
	if err == nil && !bytes.Equal(got, content) {
		err = errors.New("what was read is not what the image holds; please report this")
	}
	if uerr := itself("umount", mnt); uerr != nil {
		return errors.Join(err, uerr)
	}
	return err
}

// itself runs this program.
func itself(args ...string) error {
	bin, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(bin, args...)
	cmd.Args[0] = "vdfs"
	out, err := cmd.CombinedOutput()
	if text := strings.TrimSpace(string(out)); err != nil && text != "" {
		return errors.New(strings.TrimPrefix(text, "vdfs: "))
	}
	return err
}

// tempDir is where temporary files go: the first folder for them on a disk, if there is
// one, as the kernel reads images from there only.
func tempDir() string {
	for _, dir := range []string{os.Getenv("TMPDIR"), "/var/tmp", "/tmp"} {
		var st unix.Statfs_t
		if dir != "" && unix.Statfs(dir, &st) == nil && st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC && unix.Access(dir, unix.W_OK) == nil {
			return dir
		}
	}
	return os.TempDir()
}
