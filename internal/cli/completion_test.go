package cli

import (
	"slices"
	"strings"
	"testing"
)

// TestComplete: what may stand where. "_" is an empty word.
func TestComplete(t *testing.T) {
	for line, want := range map[string]string{
		"mou":                          "none mount",
		"--verb":                       "none --verbose",
		"mount --kernel-reads _":       "none auto off require",
		"mount --fill=z":               "none --fill=zero",
		"mount --fill = z":             "none zero", // as bash splits
		"mount --fill =":               "none eio zero",
		"mount -o ro,umas":             "none ro,umask=",
		"mount -o ro,overla":           "none ro,overlay=",
		"mount --search _":             "dirs",
		"mount --pid-file _":           "files",
		"mount --kernel-reads off a.v": imageFiles(),
		"mount --parent _":             imageFiles(),
		"mount --overlay t":            imageFiles() + " tmp",
		"convert a.vdi --to v":         "none vdi vmdk",
		"create --variant spl":         "none split2g split2g-flat",
		"info --format vm":             "none vmdk",
		"-v info --heade":              "none --header",
		"completion z":                 "none zsh",
		"doctor _":                     "none",
		"nonsense _":                   "none",
		"mount --by":                   "none",
		"comple":                       "none completion",
	} {
		words := strings.Fields(strings.ReplaceAll(line, "_", ""))
		if strings.HasSuffix(line, "_") {
			words = append(words, "")
		}
		l := complete(newApp(), words[:len(words)-1], words[len(words)-1])
		got := []string{l.kind}
		for _, w := range l.words {
			got = append(got, w[0])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// TestCompleteAll: every command and every flag that help shows is completed.
func TestCompleteAll(t *testing.T) {
	app := newApp()
	for _, c := range app.VisibleCommands() {
		if l := complete(app, nil, c.Name); !slices.ContainsFunc(l.words, func(w [2]string) bool { return w[0] == c.Name }) {
			t.Errorf("%s is not completed", c.Name)
		}
		l := complete(app, []string{c.Name}, "-")
		for _, f := range c.VisibleFlags() {
			for _, name := range f.Names() {
				if !slices.ContainsFunc(l.words, func(w [2]string) bool { return strings.TrimLeft(w[0], "-") == name }) && name != "help" && name != "h" {
					t.Errorf("%s --%s is not completed", c.Name, name)
				}
			}
		}
	}
}
