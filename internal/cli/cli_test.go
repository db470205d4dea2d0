package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/evidence"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
)

func TestPermute(t *testing.T) {
	for in, want := range map[string]string{
		"vdfs info a.vdi --json":             "vdfs info --json -- a.vdi",
		"vdfs -v info --search d a.vdi":      "vdfs -v info --search d -- a.vdi",
		"vdfs mount a b -o ro -f":            "vdfs mount -o ro -f -- a b",
		"vdfs copy a - --fill=zero":          "vdfs copy --fill=zero -- a -",
		"vdfs mount a --overlay tmp b --rw":  "vdfs mount --overlay tmp --rw -- a b",
		"vdfs info --json -- --odd-name.vdi": "vdfs info --json -- --odd-name.vdi",
		"vdfs info -v a.vdi --quiet":         "vdfs -v --quiet info -- a.vdi",
		"vdfs info a.vdi --format":           "vdfs info --format",
		"vdfs nonsense --x":                  "vdfs nonsense --x",
		"vdfs --help":                        "vdfs --help",
		"vdfs":                               "vdfs",
	} {
		if got := permute(newApp(), strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {usageError{"x"}, 1},
		{vdcore.ErrFormat, 2}, {vdcore.ErrUnsupported, 2}, {storage.ErrOutside, 2}, {storage.ErrNotRegular, 2}, {fs.ErrNotExist, 2}, {vdcore.ErrReadOnly, 2},
		{vdcore.ErrMissing, 3}, {vdcore.ErrMismatch, 4}, {vdcore.ErrCycle, 4}, {vdcore.ErrCorrupt, 4},
		{syscall.EBUSY, 5}, {storage.ErrLocked, 5}, {errFUSE, 6}, {syscall.ENOSPC, 7}, {syscall.EIO, 7}, {vdcore.ErrLost, 7}, {vdcore.ErrNoSpace, 7}, {storage.ErrChanged, 8},
		{imgops.ErrManifest, 4}, {imgops.ErrNoManifest, 2}, {evidence.ErrChanged, 8}, {errors.Join(evidence.ErrChanged, imgops.ErrManifest), 8},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("wrapped: %w", errors.Join(err))
		}
		if got := exitCode(err); got != c.want {
			t.Errorf("%v: exit %d, want %d", c.err, got, c.want)
		}
	}
}

// TestUsage: a wrong option is named as it was written, with where to look.
func TestUsage(t *testing.T) {
	for line, want := range map[string]string{
		"--bogus":                 "no option --bogus; see vdfs --help",
		"info --bogus x":          "no option --bogus; see vdfs info --help",
		"info -x x":               "no option -x; see vdfs info --help",
		"mount a b --search":      "--search takes a value; see vdfs mount --help",
		"version x":               "version takes no arguments; see vdfs version --help",
		"doctor --fill=zero":      "doctor takes no --allow-incomplete: it opens no image",
		"rm --allow-incomplete x": "rm takes no --allow-incomplete: it needs no parents",
	} {
		app := newApp()
		err := app.Run(permute(app, append([]string{"vdfs"}, strings.Fields(line)...)))
		if err == nil || err.Error() != want || exitCode(err) != exitUsage {
			t.Errorf("vdfs %s: %v", line, err)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain ä 盤":      "plain ä 盤",
		"\x1b[31mred\a":  `\x1b[31mred\a`,
		"bad\xffutf":     `bad\xffutf`,
		"line\n\ttab":    `line\n\ttab`,
		"\u202eoverride": `\u202eoverride`,
		"cr\rnul\x00":    `cr\rnul\x00`,
	} {
		if got := clean(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 64 << 20: "64 MiB", 2 << 40: "2 TiB"} {
		if got := size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
