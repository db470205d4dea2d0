package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rivo/uniseg"
)

// onTerminal runs a command line of vdfs on a terminal of so many columns and returns
// what it prints, messages included. util-linux' script is the terminal.
func onTerminal(t *testing.T, columns string, env []string, args ...string) string {
	t.Helper()
	needTool(t, "script")
	needTool(t, "stty")
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	line := "stty cols " + columns + "; '" + vdfsBinary + "' " + strings.Join(quoted, " ")
	r := command(t, func(cmd *exec.Cmd) {
		cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR=", "SHELL=/bin/sh"), env...)
		cmd.Stdin = nil
	}, "script", "-qc", line, "/dev/null")
	return strings.ReplaceAll(r.stdout, "\r\n", "\n")
}

// TestOnTerminal: no line is wider than the terminal, whatever the names, but commands to
// copy, which must be whole; and colours are for terminals, unless somebody wants none.
func TestOnTerminal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ein Ordner mit einem langen Namen, der nicht in eine Zeile geht", "磁盘镜像")
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(demoChain(t), dir); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(dir, strings.Repeat("磁盘", 25)+".vdi")
	if err := os.Rename(filepath.Join(dir, "updated.vdi"), top); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(unpack(t, "vmdk-diff3.tar.gz"), "diff2.vmdk")
	if err := os.Remove(filepath.Join(filepath.Dir(broken), "base.vmdk")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"info", top}, {"chain", top}, {"info", broken}, {"chain", broken}, {"info", "--allow-incomplete", broken}, {"mount", top}, {"info", "/none"},
	} {
		for _, columns := range []string{"80", "132"} {
			out := onTerminal(t, columns, nil, args...)
			if !strings.Contains(out, "\x1b[") {
				t.Errorf("%v has no colours: %q", args, out)
			}
			wide := map[string]int{"80": 80, "132": 132}[columns]
			prose, _, _ := strings.Cut(uncoloured(out), "\nnext, as root:")
			for line := range strings.Lines(prose) {
				if n := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); n > wide {
					t.Errorf("%v on %d columns prints %d: %q", args, wide, n, line)
				}
			}
			for _, env := range []string{"NO_COLOR=1", "TERM=dumb"} {
				if plain := onTerminal(t, columns, []string{env}, args...); plain != uncoloured(out) {
					t.Errorf("%v with %s: %q\nwithout %q", args, env, plain, out)
				}
			}
		}
	}
	for _, args := range [][]string{{"info", top}, {"chain", top}} {
		if out := must(t, args...); strings.Contains(out, "\x1b") || !strings.Contains(out, filepath.Base(top)) {
			t.Errorf("%v into a file: %q", args, out)
		}
	}
}

// uncoloured takes out what newPage's colours put in.
func uncoloured(s string) string {
	for _, code := range []string{"0", "1", "2", "31", "32", "33", "34"} {
		s = strings.ReplaceAll(s, "\x1b["+code+"m", "")
	}
	return s
}
