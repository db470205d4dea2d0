package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMountOptions(t *testing.T) {
	o, err := parseMountWords(t, []string{"allow_other,ro", "uid=1000,gid=0,umask=027,x-systemd.automount,defaults,nofail,_netdev,nonempty,allow_root"})
	if err != nil {
		t.Fatal(err)
	}
	if !o.allowOther || !o.allowRoot || !o.nonempty || o.uid == nil || *o.uid != 1000 || o.gid == nil || *o.gid != 0 || o.umask != 0o27 {
		t.Errorf("%+v", o)
	}
	for _, bad := range []string{"ro=1", "foo", "uid=", "uid=-1", "uid=root", "uid=4294967295", "umask=9", "umask=1777", "allow_othe"} {
		var usage usageError
		if _, err := parseMountWords(t, []string{bad}); !errors.As(err, &usage) {
			t.Errorf("-o %s: %v", bad, err)
		}
	}
}

func TestCheckMountpoint(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	empty := filepath.Join(dir, "empty")
	file := filepath.Join(full, "file")
	blank := filepath.Join(dir, "blank")
	for _, d := range []string{full, empty} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for f, text := range map[string]string{file: "x", blank: ""} {
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path     string
		n        int
		nonempty bool
		want     string // part of the error
	}{
		{empty, 3, false, ""}, {full, 1, false, "not empty"}, {full, 1, true, ""},
		{blank, 1, false, ""}, {blank, 2, false, "one image"}, {file, 1, false, "comes last"}, {file, 1, true, ""},
		{filepath.Join(dir, "none"), 1, false, "does not exist"}, {"/dev/null", 1, false, "neither"},
	} {
		err := checkMountpoint(c.path, c.n, c.nonempty)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %d: %v, want %q", c.path, c.n, err, c.want)
		}
	}
}
