package selftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vdfs/fs"
)

// Outcome is what became of a promise.
type Outcome string

const (
	OK      Outcome = "ok"
	Failed  Outcome = "FAILED"
	Skipped Outcome = "skipped" // cannot be tried here
)

// Result is one promise and what became of it.
type Result struct {
	Check   string  `json:"check"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail"`
}

// Options say where to try.
type Options struct {
	Binary string // vdfs, to mount with
	Where  string // a folder to make images in, or an image
	Tell   func(Result)
}

// MountError: vdfs mount failed, so nothing could be tried.
type MountError struct {
	Code int // its exit code
	Text string
}

func (e *MountError) Error() string { return e.Text }

// trial is one run.
type trial struct {
	Options
	images []*image
	mnt    string
	pid    int // of the daemon
	files  []string
	dirs   []string
}

// Run tries everything. What fails is a Result; an error means that it could not be
// tried.
func Run(ctx context.Context, o Options) (err error) {
	t := &trial{Options: o}
	remove, err := t.prepare()
	defer func() { err = errors.Join(err, remove()) }()
	if err != nil {
		return err
	}
	if err := t.before(ctx); err != nil {
		return err
	}
	if err := t.mount(ctx); err != nil {
		return errors.Join(err, os.Remove(t.mnt))
	}
	tried := t.try(ctx)
	err = t.unmount()
	if tried != nil || err != nil {
		return errors.Join(tried, err)
	}
	return t.after(ctx)
}

// tell reports one promise: kept unless one of the faults is not "".
func (t *trial) tell(check, detail string, faults ...string) {
	faults = slices.DeleteFunc(faults, func(s string) bool { return s == "" })
	if len(faults) > 0 {
		t.Tell(Result{check, Failed, strings.Join(faults, "; ")})
		return
	}
	t.Tell(Result{check, OK, detail})
}

func (t *trial) skip(check, why string) { t.Tell(Result{check, Skipped, why}) }

// mount has another process show the images.
func (t *trial) mount(ctx context.Context) (err error) {
	if t.mnt, err = os.MkdirTemp("", "vdfs-selftest-mount-"); err != nil {
		return err
	}
	args := []string{"mount"}
	for _, i := range t.images {
		args = append(args, i.path)
	}
	return t.vdfs(ctx, append(args, t.mnt)...)
}

func (t *trial) vdfs(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, t.Binary, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	var text bytes.Buffer
	cmd.Stderr = &text
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return &MountError{exit.ExitCode(), strings.TrimPrefix(strings.TrimSpace(text.String()), "vdfs: ")}
	}
	return err
}

// look lists what is mounted, and finds out who serves it.
func (t *trial) look() error {
	if err := filepath.WalkDir(t.mnt, t.sort); err != nil {
		return err
	}
	buf := make([]byte, 32)
	n, err := unix.Lgetxattr(t.mnt, fs.XattrPID, buf)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", t.mnt, fs.XattrPID, err)
	}
	_, err = fmt.Sscan(string(buf[:n]), &t.pid)
	return err
}

func (t *trial) sort(path string, e os.DirEntry, err error) error {
	switch {
	case err != nil:
		return err
	case e.IsDir():
		t.dirs = append(t.dirs, path)
	default:
		t.files = append(t.files, path)
	}
	return nil
}

// unmount ends the mount, also after Ctrl-C; how that went is the last promise of the
// mount: vdfs itself has not seen an image change.
func (t *trial) unmount() error {
	err := t.vdfs(context.Background(), "umount", t.mnt)
	var failed *MountError
	switch {
	case errors.As(err, &failed):
		t.tell("unmount", "", failed.Text)
		if e, _ := fs.MountAt(t.mnt); e != nil {
			return nil // the mountpoint cannot be removed
		}
	case err != nil:
		return err
	default:
		t.tell("unmount", "vdfs itself saw no image change")
	}
	return os.Remove(t.mnt)
}
