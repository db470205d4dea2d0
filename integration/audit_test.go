package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// auditLine has the keys of all kinds of lines that are looked at.
type auditLine struct {
	Version int       `json:"vdfs_audit"`
	Time    time.Time `json:"time"`
	Session string    `json:"session"`
	Event   string    `json:"event"`

	Who struct {
		UID  int
		User string
	} `json:"who"`
	Arguments []string `json:"arguments"`
	Mode      string   `json:"mode"`
	Images    []struct {
		Layers []struct{ Files []struct{ Path string } }
	} `json:"images"`
	ID       int64         `json:"id"`
	File     string        `json:"file"`
	What     []string      `json:"what"`
	UID      int           `json:"uid"`
	PID      int           `json:"pid"`
	Comm     string        `json:"comm"`
	Op       string        `json:"op"`
	When     any           `json:"when"`
	OK       bool          `json:"ok"`
	How      string        `json:"how"`
	Asked    *auditLine    `json:"asked_by"`
	ExitCode int           `json:"exit_code"`
	Changed  []changedFile `json:"changed"`
	Written  []struct {
		File    string
		Written int64
	} `json:"written"`
	Opens    map[string]int64 `json:"opens"`
	Unlogged int64            `json:"unlogged"`
	Errors   int              `json:"errors"`
}

func auditLines(t testing.TB, path string) (list []auditLine) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if l.Version != 1 || l.Time.IsZero() || l.Session == "" {
			t.Errorf("not as every line: %q", line)
		}
		list = append(list, l)
	}
	return list
}

func linesOf(lines []auditLine, event string) (list []auditLine) {
	for _, l := range lines {
		if l.Event == event {
			list = append(list, l)
		}
	}
	return list
}

// TestAudit: the audit file tells who mounted what, who opened which file, errors, and
// who ended it, for each mount that shares it.
func TestAudit(t *testing.T) {
	needRoot(t)
	dir := demoChain(t)
	top := filepath.Join(dir, "updated.vdi")
	audit := filepath.Join(dir, "audit")
	for n := range 2 {
		mnt := mount(t, "--audit", audit, "-o", "allow_other", top)
		disk := filepath.Join(mnt, "updated", "disk.raw")
		reader := exec.Command("sha256sum", disk)
		reader.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if n == 1 {
			reader.SysProcAttr = nil
		}
		// The way to the test's own folder is closed to others: it comes by descriptor.
		reader = asFolder(t, reader, filepath.Dir(disk))
		if out, err := reader.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), demoHash) {
			t.Fatalf("%v: %s", err, out)
		}
		if err := os.Mkdir(filepath.Join(mnt, "x"), 0o700); err == nil {
			t.Error("a folder was made")
		}
		must(t, "umount", mnt)
		lines := auditLines(t, audit)
		lines = ofSession(lines, lines[len(lines)-1].Session)
		first, images, last := lines[0], linesOf(lines, "images"), lines[len(lines)-1]
		if first.Event != "begin" || first.Who.User != "root" || first.Arguments[1] != "mount" || first.Mode != "ro" {
			t.Errorf("begin: %+v", first)
		}
		if len(images) != 1 || len(images[0].Images) != 1 || len(images[0].Images[0].Layers) != 4 || images[0].Images[0].Layers[3].Files[0].Path != top {
			t.Errorf("images: %+v", images)
		}
		opens, closes := linesOf(lines, "open"), linesOf(lines, "close")
		uid := 65534 * (1 - n)
		if len(opens) != 1 || opens[0].File != "updated/disk.raw" || opens[0].Comm != "sha256sum" || opens[0].UID != uid || opens[0].PID != reader.Process.Pid {
			t.Errorf("open: %+v, want uid %d, pid %d", opens, uid, reader.Process.Pid)
		}
		if len(closes) != 1 || closes[0].ID != opens[0].ID || closes[0].Comm != "sha256sum" {
			t.Errorf("close: %+v", closes)
		}
		if last.Event != "end" || last.ExitCode != 0 || last.Asked == nil || last.Asked.Comm != "vdfs" || last.Opens["updated/disk.raw"] != 1 {
			t.Errorf("end: %+v", last)
		}
	}
	if mode := stat(t, audit).Mode & 0o777; mode != 0o600 {
		t.Errorf("mode %o", mode)
	}
}

// asFolder has a command read disk.raw of its working folder.
func asFolder(t testing.TB, cmd *exec.Cmd, folder string) *exec.Cmd {
	t.Helper()
	for p := folder; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755) // those of the mount are, and refuse
	}
	cmd.Dir = folder
	cmd.Args[1] = "disk.raw"
	return cmd
}

func ofSession(lines []auditLine, session string) (list []auditLine) {
	for _, l := range lines {
		if l.Session == session {
			list = append(list, l)
		}
	}
	return list
}

// TestAuditErrors: an error a reader got is in the audit file, and so are a mount that
// did not come about, and one that was ended by a signal.
func TestAuditErrors(t *testing.T) {
	dir := demoChain(t)
	top := filepath.Join(dir, "updated.vdi")
	audit := filepath.Join(t.TempDir(), "audit")
	if err := os.Rename(filepath.Join(dir, "base.vdi"), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "away"), filepath.Join(t.TempDir(), "away")); err != nil {
		t.Fatal(err)
	}
	if r := vdfs(t, "mount", "--audit", audit, top, t.TempDir()); r.code != 3 {
		t.Fatalf("exit %d, %s", r.code, r.stderr)
	}
	lines := auditLines(t, audit)
	if last := lines[len(lines)-1]; len(lines) != 2 || last.How != "not mounted" || last.ExitCode != 3 {
		t.Errorf("%+v", lines)
	}

	mnt := mount(t, "--allow-incomplete", "--audit", audit, top)
	disk := filepath.Join(mnt, "updated", "disk.raw")
	for range 3 {
		if r := command(t, nil, "cat", disk); r.code == 0 {
			t.Error("what is lost was read")
		}
	}
	pid := daemon(t, mnt)
	unix.Kill(pid, unix.SIGTERM)
	for alive(pid) {
		time.Sleep(10 * time.Millisecond)
	}
	lines = auditLines(t, audit)
	last := lines[len(lines)-1]
	if last.How != "signal: terminated" || last.Errors == 0 || last.Opens["updated/disk.raw"] != 3 {
		t.Errorf("end: %+v", last)
	}
	if failed := linesOf(lines, "error"); len(failed) == 0 || len(failed) > 3 || failed[0].Op != "read" || failed[0].File != "updated/disk.raw" {
		t.Errorf("errors: %+v", failed)
	}
}

// TestAuditBounded: who opens a file again and again does not fill the disk; all opens
// are counted.
func TestAuditBounded(t *testing.T) {
	top := filepath.Join(demoChain(t), "base.vdi")
	audit := filepath.Join(t.TempDir(), "audit")
	mnt := mount(t, "--audit", audit, top)
	disk := filepath.Join(mnt, "base", "disk.raw")
	const opens = 5000
	began := time.Now()
	for range opens {
		f, err := os.Open(disk)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	most := 1000 + int(time.Since(began)/time.Second) + 1
	must(t, "umount", mnt)
	lines := auditLines(t, audit)
	last := lines[len(lines)-1]
	logged := len(linesOf(lines, "open"))
	if logged > most || last.Opens["base/disk.raw"] != opens || last.Unlogged != int64(opens-logged) {
		t.Errorf("%d lines of at most %d, %d opens, %d unlogged", logged, most, last.Opens["base/disk.raw"], last.Unlogged)
	}
	if closes := len(linesOf(lines, "close")); closes != logged {
		t.Errorf("%d closes for %d opens", closes, logged)
	}
}

// TestAuditRefused: what would be harmed, or hidden, is no audit file.
func TestAuditRefused(t *testing.T) {
	dir := demoChain(t)
	top := filepath.Join(dir, "updated.vdi")
	before := state(t, dir, true)
	mnt := t.TempDir()
	link, foreign := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "notes")
	writeFile(t, foreign, []byte("{\"x\":1}\n"))
	if err := os.Symlink("/etc/hostname", link); err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]int{
		filepath.Join(mnt, "audit"): 1, mnt: 1, filepath.Join(dir, "base.vdi"): 2, top: 2,
		link: 2, foreign: 2, "/dev/null": 2, t.TempDir(): 2, filepath.Join(t.TempDir(), "no", "audit"): 2, "": 1,
	} {
		if r := vdfs(t, "mount", "--audit", path, top, mnt); r.code != code || !strings.Contains(r.stderr, "audit") {
			t.Errorf("%q: exit %d, want %d: %s", path, r.code, code, r.stderr)
		}
	}
	for p, s := range state(t, dir, true) {
		if !strings.HasSuffix(before[p], s[len(s)-64:]) {
			t.Errorf("%s changed", p)
		}
	}
	if text, _ := os.ReadFile(foreign); string(text) != "{\"x\":1}\n" {
		t.Errorf("written to: %q", text)
	}
	if list, _ := os.ReadDir(mnt); len(list) != 0 {
		t.Errorf("made in the mountpoint: %v", list)
	}
}

// TestAuditFull: a mount whose audit file cannot be written does not come about, and one
// that loses its audit file's space says so at the end.
func TestAuditFull(t *testing.T) {
	needRoot(t)
	top := filepath.Join(demoChain(t), "base.vdi")
	small := t.TempDir()
	tool(t, "mount", "-t", "tmpfs", "-o", "size=64k", "none", small)
	t.Cleanup(func() { command(noContext{t}, nil, "umount", small) })
	audit, ballast := filepath.Join(small, "audit"), filepath.Join(small, "ballast")
	mnt := mount(t, "--audit", audit, top)
	fillUp(t, ballast, small, 0)
	for range 100 {
		sum(t, filepath.Join(mnt, "base", "info.json"))
	}
	if r := vdfs(t, "umount", mnt); r.code != 7 || !strings.Contains(r.stderr, "audit") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	mnt = t.TempDir()
	if r := vdfs(t, "mount", "--audit", filepath.Join(small, "another"), top, mnt); r.code != 7 || mounted(t, mnt) {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
