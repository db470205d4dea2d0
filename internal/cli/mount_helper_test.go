package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// parsedMount is what a command line of `mount` comes to.
func parsedMount(t *testing.T, args ...string) (*mountRequest, error) {
	t.Helper()
	app := newApp()
	var req *mountRequest
	var err error
	app.Command("mount").Action = func(c *cli.Context) error {
		req, err = parseMount(c)
		return err
	}
	if e := app.Run(permute(app, args)); e != nil && err == nil {
		err = e
	}
	return req, err
}

func parseMountWords(t *testing.T, lists []string) (mountOptions, error) {
	t.Helper()
	args := []string{"vdfs", "mount"}
	for _, l := range lists {
		args = append(args, "-o", l)
	}
	req, err := parsedMount(t, append(args, "image", "mnt")...)
	if err != nil {
		return mountOptions{}, err
	}
	return req.options, nil
}

// TestFlagWords: what is a flag of mount is a word of -o.
func TestFlagWords(t *testing.T) {
	req, err := parsedMount(t, "vdfs", "mount", "--search", "/one,two", "-o",
		`search=/a\,b,search="/c,d",parent=/e\040f,parent=\"g\\,overlay=/o.vdi,kernel-reads=off,format=vdi,allow-modified-parent`, "image", "mnt")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/one,two", "/a,b", "/c,d"}; !slices.Equal(req.open.Search, want) {
		t.Errorf("search %q", req.open.Search)
	}
	if want := []string{"/e f", `"g\`}; !slices.Equal(req.open.Parents, want) {
		t.Errorf("parent %q", req.open.Parents)
	}
	if req.overlay != "/o.vdi" || req.open.Format != "vdi" || !req.open.AllowModifiedParent || req.open.Write {
		t.Errorf("%+v", req)
	}
	for word, want := range map[string]string{
		"overlay": "takes a value", "allow-incomplete=1": "takes no value", "fill=zero": "goes with",
		"foreground": "no such option", "by-mount": "no such option", "format=nonsense": "nonsense",
		"kernel-reads=perhaps": "auto", `search="x`: "not closed", `search=x\`: "backslash", "sloppy": "no such option",
	} {
		var usage usageError
		if _, err := parseMountWords(t, []string{word}); !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("-o %s: %v, want %q", word, err, want)
		}
	}
}

// TestOtherWords: every word of mount(8) that it may hand on is taken.
func TestOtherWords(t *testing.T) {
	for _, word := range otherWords {
		if strings.HasSuffix(word, "=") {
			word += "value"
		}
		if _, err := parseMountWords(t, []string{word}); err != nil {
			t.Errorf("-o %s: %v", word, err)
		}
	}
	for _, word := range []string{"x-systemd.requires=/a", "X-mount.mkdir", "", ",,"} {
		if _, err := parseMountWords(t, []string{word}); err != nil {
			t.Errorf("-o %s: %v", word, err)
		}
	}
}

func TestHelperLines(t *testing.T) {
	for in, want := range map[string]string{
		"/sbin/mount.vdfs a.vdi /mnt -o rw,noexec":        "vdfs mount --by-mount -o rw,noexec -- a.vdi /mnt",
		"mount.fuse.vdfs -sfnv a.vdi -o rw -o uid=1 /mnt": "vdfs --verbose mount --by-mount --sloppy --fake -o rw -o uid=1 -- a.vdi /mnt",
		"mount.vdfs a.vdi /mnt -n -v -orw -t fuse.vdfs":   "vdfs --verbose mount --by-mount -o rw -- a.vdi /mnt",
		"/usr/bin/vdfs a.vdi /mnt -o rw,dev,suid":         "vdfs mount --by-mount -o rw,dev,suid -- a.vdi /mnt",
		"mount.vdfs a.vdi":                                "",
		"mount.vdfs a.vdi /mnt more":                      "",
		"mount.vdfs a.vdi /mnt -x":                        "",
		"mount.vdfs a.vdi /mnt -o":                        "",
		"mount.vdfs a.vdi /mnt -t ext4":                   "",
		"mount.vdfs a.vdi /mnt -N":                        "",
		"vdfs mount -o ro /mnt":                           "no helper",
		"vdfs info a.vdi -o x":                            "no helper",
		"vdfs a.vdi /mnt":                                 "no helper",
		"vdfs":                                            "no helper",
	} {
		args, got := strings.Fields(in), "no helper"
		if isHelper(args) {
			h, err := parseHelper(args)
			if got = strings.Join(h.line(), " "); err != nil {
				got = ""
			}
		}
		if got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}

// TestByMount: rw from mount(8), which says it of every mount, writes to nothing.
func TestByMount(t *testing.T) {
	for words, want := range map[string]bool{"rw": false, "rw,write": true, "ro": false, "write": true} {
		req, err := parsedMount(t, "vdfs", "mount", "--by-mount", "-o", words, "--", "image", "mnt")
		if err != nil || req.open.Write != want {
			t.Errorf("%s: writes %v, %v", words, req.open.Write, err)
		}
	}
	if _, err := parsedMount(t, "vdfs", "mount", "--by-mount", "-o", "ro,write", "image", "mnt"); err == nil {
		t.Error("ro,write is taken")
	}
	if _, err := parsedMount(t, "vdfs", "mount", "--sloppy", "-o", "nonsense,uid=1", "image", "mnt"); err != nil {
		t.Error(err)
	}
}
