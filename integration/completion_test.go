package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stage is a folder with images, and a vdfs that completes, and otherwise says what it
// was called with.
func stage(t *testing.T) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	bin := filepath.Join(dir, "bin")
	script := fmt.Sprintf("#!/bin/sh\ncase $1 in complet*) exec %s \"$@\";; esac\nprintf 'ARGS:'; printf '[%%s]' \"$@\"; echo .\n", vdfsBinary)
	for _, f := range []struct{ name, text string }{
		{"bin/vdfs", script}, {"my disk.vdi", ""}, {"your.txt", ""}, {"your.OVA", ""}, {"folder/disk.vmdk", ""}, {"folder/disk.log", ""},
	} {
		path := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+dir, "TERM=dumb", "PS1=ready>", "LC_ALL=C.UTF-8")
}

// terminal runs a program on a new one, and returns its other end.
func terminal(t *testing.T, dir string, env []string, name string, args ...string) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		skip(t, "no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return &screen{File: master}
}

// screen is what a program on a terminal has written.
type screen struct {
	*os.File
	unread []byte
}

// expect reads up to the end of a text.
func (s *screen) expect(t *testing.T, text string) {
	t.Helper()
	deadline := time.AfterFunc(time.Minute, func() { s.Close() })
	defer deadline.Stop()
	buf := make([]byte, 4096)
	for !bytes.Contains(s.unread, []byte(text)) {
		n, err := s.Read(buf)
		s.unread = append(s.unread, buf[:n]...)
		if err != nil {
			t.Fatalf("waiting for %q: %v; what came is %q", text, err, s.unread)
		}
	}
	_, s.unread, _ = bytes.Cut(s.unread, []byte(text))
}

// TestCompletion: in a real shell, on a terminal, tabs complete commands, options, their
// values, and the names of images, also with blanks.
func TestCompletion(t *testing.T) {
	for name, start := range map[string][]string{
		"bash": {"bash --noprofile --norc -i", "bind 'set enable-bracketed-paste off'; source <(vdfs completion bash)"},
		"zsh":  {"zsh -f -i", "PS1='ready>'; autoload -Uz compinit; compinit -u -D; source <(vdfs completion zsh)"},
	} {
		t.Run(name, func(t *testing.T) {
			needTool(t, name)
			dir, env := stage(t)
			words := strings.Fields(start[0])
			shell := terminal(t, dir, env, words[0], words[1:]...)
			shell.expect(t, "ready>")
			fmt.Fprintf(shell, "%s; printf 'c%%s\\n' harged\n", start[1])
			shell.expect(t, "charged")
			shell.expect(t, "ready>")
			for line, want := range map[string]string{
				"vdfs mou\t--fil\tz\tmy\t":                   "[mount][--fill][zero][my disk.vdi]",
				"vdfs info your\t":                           "[info][your.OVA]",
				"vdfs convert --to vm\t--vari\tstre\tfold\t": "[convert][--to][vmdk][--variant][stream][folder",
				"vdfs map folder/\t":                         "[map][folder/disk.vmdk]",
				"vdfs mount --kernel-reads=req\t":            "[mount][--kernel-reads=require]",
				"vdfs mount -o ro,nonem\t":                   "[mount][-o][ro,nonempty]",
			} {
				fmt.Fprint(shell, line+"\n")
				shell.expect(t, "ARGS:"+want)
				shell.expect(t, "ready>")
			}
		})
	}
}

// TestCompletionFish: the same, asked of fish itself.
func TestCompletionFish(t *testing.T) {
	needTool(t, "fish")
	dir, env := stage(t)
	for line, want := range map[string]string{
		"vdfs mou":                    "mount\t",
		"vdfs mount --fil":            "--fill\t",
		"vdfs mount --fill z":         "zero",
		"vdfs mount --fill=z":         "--fill=zero",
		"vdfs info my":                `my disk.vdi`,
		"vdfs info your":              "your.OVA",
		"vdfs map folder/":            "folder/disk.vmdk",
		"vdfs mount -o ro,nonem":      "ro,nonempty\t",
		"vdfs convert --variant stre": "stream",
	} {
		r := command(t, func(c *exec.Cmd) { c.Dir, c.Env = dir, env }, "fish", "--no-config", "-c", "vdfs completion fish | source; complete -C '"+line+"'")
		if !strings.HasPrefix(r.stdout, want) || strings.Count(r.stdout, "\n") != 1 {
			t.Errorf("%s: %q, %s", line, r.stdout, r.stderr)
		}
	}
}
