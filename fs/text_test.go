package fs

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
)

func TestSafeName(t *testing.T) {
	for in, want := range map[string]string{
		"win10": "win10", "Größe 1": "Größe 1", "a/b": "a_b", "x\x1b[2J\n": "x_[2J_",
		"": "image", ".": "image", "..": "image", "\xff\xfe": "__", "a\u202eb": "a_b",
	} {
		if got := safeName(in); got != want {
			t.Errorf("safeName(%q) = %q, want %q", in, got, want)
		}
	}
	long := safeName(strings.Repeat("ä", 300))
	if len(long) > maxName || !utf8.ValidString(long) {
		t.Errorf("a long name becomes %d bytes: %q", len(long), long)
	}
}

func TestNamesAreDistinct(t *testing.T) {
	n := names{}
	for _, c := range [][2]string{{"a", "a"}, {"a", "a-2"}, {"a-2", "a-2-2"}, {"a", "a-3"}} {
		if got := n.take(c[0]); got != c[1] {
			t.Errorf("%q becomes %q, want %q", c[0], got, c[1])
		}
	}
}

func TestInodesAreDistinct(t *testing.T) {
	n := inodes{}
	a := n.take("x")
	if b := n.take("x"); b == a || b <= 1 {
		t.Errorf("%d after %d", b, a)
	}
	n = inodes{}
	if n.take("x") != a {
		t.Error("the number does not depend on the path alone")
	}
}

func TestMountinfo(t *testing.T) {
	list, err := parseMountinfo(strings.NewReader(
		"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n" +
			`46 27 0:39 / /tmp/a\040b\134c ro,nosuid - fuse.vdfs /x\040-\040y\011.vdi ro,user_id=0` + "\n"))
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	want := Entry{Device: "0:39", Mountpoint: `/tmp/a b\c`, Type: FSType, Source: "/x - y\t.vdi", Options: "ro,nosuid,ro,user_id=0"}
	if list[1] != want {
		t.Errorf("%+v, want %+v", list[1], want)
	}
	if list[0].Type != "ext3" || list[0].Source != "/dev/root" {
		t.Errorf("%+v", list[0])
	}
	if _, err := parseMountinfo(strings.NewReader("garbage\n")); err == nil {
		t.Error("garbage parses")
	}
	if _, err := MountTable(); err != nil {
		t.Error(err)
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"/m", "/m", true}, {"/m/x", "/m", true}, {"/mm", "/m", false}, {"/x", "/", true}, {"/", "/m", false},
	} {
		if got := below(c.path, c.dir); got != c.want {
			t.Errorf("below(%q, %q) = %v", c.path, c.dir, got)
		}
	}
}

func TestConnectionOf(t *testing.T) {
	if got := connectionOf("pos:\t0\nflags:\t02100002\nfuse_connection:\t39\n"); got != "39" {
		t.Errorf("%q", got)
	}
	if got := connectionOf("pos:\t0\n"); got != "" {
		t.Errorf("%q", got)
	}
}

// This process holds its own working folder, and a file.
func TestHolders(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(dir + "/held")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var found bool
	for _, h := range Holders(dir) {
		found = found || h.PID == os.Getpid() && h.Path == dir+"/held"
	}
	if !found {
		t.Errorf("not among %v", Holders(dir))
	}
	err = &BusyError{"/m", []Holder{{Kind: "loop", Name: "/dev/loop7", Path: "/m/disk.raw", Free: "losetup -d /dev/loop7"}}}
	if !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), "losetup -d /dev/loop7") {
		t.Error(err)
	}
}

func TestEscapeOption(t *testing.T) {
	if got := escapeOption(`a,b\c`); got != `a\,b\\c` {
		t.Errorf("%s", got)
	}
}

func TestErrorsDoNotFlood(t *testing.T) {
	var log bytes.Buffer
	r := newIOErrors(zerolog.New(&log), nil)
	now := time.Unix(1e9, 0)
	r.now = func() time.Time { return now }
	lines := func() int { return strings.Count(log.String(), "\n") }
	report := func(grain int64) { r.report("read", "d", grain*errorGrain, 512, errors.New("x")) }

	for g := range int64(1000) { // one long range
		report(g)
	}
	if lines() != 1 {
		t.Errorf("one range makes %d lines", lines())
	}
	for g := range int64(1000) { // many ranges
		report(2000 + 2*g)
	}
	if lines() != errorsBurst {
		t.Errorf("many ranges make %d lines, want %d", lines(), errorsBurst)
	}
	now = now.Add(errorsEvery)
	report(1 << 20)
	if lines() != errorsBurst+1 || !strings.Contains(log.String(), "more_ranges") {
		t.Errorf("later: %d lines, want %d", lines(), errorsBurst+1)
	}
	r.report("read", "d", math.MaxInt64-512, 512, errors.New("x"))
}

// TestElsewhere: a file system that has got the number of one that is gone is not taken
// for it.
func TestElsewhere(t *testing.T) {
	e := Entry{Device: "0:39", Mountpoint: "/a", Type: FSType, Source: "/x.vdi"}
	for at, o := range map[string]Entry{
		"/b": {Device: "0:39", Mountpoint: "/b", Type: FSType, Source: "/x.vdi"},
		"":   {Device: "0:39", Mountpoint: "/c", Type: FSType, Source: "/y.vdi"},
	} {
		if got := e.in([]Entry{{Device: "0:39", Mountpoint: "/d", Type: "tmpfs", Source: "none"}, o}); got != at {
			t.Errorf("%q, want %q", got, at)
		}
	}
}
