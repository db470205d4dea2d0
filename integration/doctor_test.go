package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// diagnosis is what the doctor says, by name.
type diagnosis struct {
	Mounts bool
	Checks []struct{ Name, State, Text, Fix string }
}

func (d diagnosis) state(name string) string {
	for _, c := range d.Checks {
		if c.Name == name {
			return c.State
		}
	}
	return "none"
}

const nobody = 65534

// TestDoctor: what works is tried, what does not is said with what mends it, and the
// exit code is about mounting alone.
func TestDoctor(t *testing.T) {
	needTool(t, "setpriv")
	needTool(t, "fusermount3")
	if st, err := os.Stat("/dev/fuse"); err != nil || st.Mode().Perm()&0o006 != 0o006 {
		skip(t, "/dev/fuse is not open to all users here (chmod 0666 /dev/fuse)")
	}
	h := newHouse(t, "mount.vdfs", "mount.fuse.vdfs")
	conf := filepath.Join(h.dir, "fuse.conf")
	if err := os.WriteFile(conf, []byte("# user_allow_other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.must("mount", "--bind", conf, "/etc/fuse.conf")
	asRoot := func(args ...string) result { return h.command("setpriv", append(args, "vdfs", "doctor", "--json")...) }
	asNobody := func(args ...string) result { return h.as(nobody, "env", append(args, "vdfs", "doctor", "--json")...) }
	for _, c := range []struct {
		name   string
		result result
		code   int
		states string
	}{
		{"root", asRoot(), 0, "mounting ok, reads by the kernel, images ok, reads by the kernel, raw disks ok, user ok, fusermount3 ok, fstab ok, allow_other note"},
		{"root without its powers", asRoot("--bounding-set=-sys_admin", "--inh-caps=-sys_admin"), 6, "mounting FAIL, user FAIL"},
		{"a user", asNobody(), 0, "mounting ok, reads by the kernel, images note, user ok, allow_other note"},
		{"a user without fusermount3", hiding(h, asNobody), 6, "mounting FAIL, fusermount3 FAIL"},
	} {
		var d diagnosis
		parse(t, c.result.stdout, &d)
		if c.result.code != c.code || d.Mounts != (c.code == 0) {
			t.Errorf("%s: exit %d, mounts %v\n%s", c.name, c.result.code, d.Mounts, c.result.stdout)
		}
		for _, check := range d.Checks {
			if check.State != "ok" && check.Fix == "" {
				t.Errorf("%s: nothing is said to mend %s: %s", c.name, check.Name, check.Text)
			}
			name := check.Name + " "
			if at := strings.Index(c.states, name); at >= 0 && !strings.HasPrefix(c.states[at+len(name):], check.State) {
				t.Errorf("%s: %s is %s: %s", c.name, check.Name, check.State, check.Text)
			}
		}
	}
	if err := os.WriteFile(conf, []byte("user_allow_other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var d diagnosis
	parse(t, asNobody().stdout, &d)
	if d.state("allow_other") != "ok" {
		t.Errorf("user_allow_other is set, and allow_other is %s", d.state("allow_other"))
	}
	if r := h.command("vdfs", "doctor"); r.code != 0 || !strings.Contains(r.stdout, "a tiny image was mounted and read") {
		t.Errorf("%+v", r)
	}
}

// hiding does something while fusermount3 cannot be executed.
func hiding(h *house, do func(args ...string) result) result {
	h.Helper()
	const hidden = "/usr/bin/fusermount3"
	h.must("mount", "--bind", "/dev/null", hidden)
	defer h.must("umount", hidden)
	return do()
}

// TestAllowOther: a user who may not have it is told which line is missing where.
func TestAllowOther(t *testing.T) {
	needTool(t, "setpriv")
	needTool(t, "fusermount3")
	h := newHouse(t)
	img, mnt := chainIn(h), h.folder("mnt")
	tool(t, "chown", "65534:65534", mnt)
	h.must("mount", "--bind", "/dev/null", "/etc/fuse.conf")
	r := h.as(nobody, "vdfs", "mount", "-o", "allow_other", img, mnt)
	if r.code != 6 || !strings.Contains(r.stderr, "echo user_allow_other >> /etc/fuse.conf") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
