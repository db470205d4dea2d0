// Command manual makes the manual pages: roff of the templates in a folder. Commands,
// options and formats are written into them from the program's own tables, so that
// no page can say something else than the program.
//
//	manual VERSION DATE TEMPLATES TARGET
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	urfave "github.com/urfave/cli/v2"

	"vdfs/internal/cli"
	"vdfs/vdcore"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: manual VERSION DATE TEMPLATES TARGET")
	}
	version, date, templates, target := args[0], args[1], args[2], args[3]
	sources, err := filepath.Glob(filepath.Join(templates, "*.md"))
	if err != nil || len(sources) == 0 {
		return fmt.Errorf("%s: no templates, %v", templates, err)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	for _, source := range sources {
		text, err := page(source, version, date)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(filepath.Base(source), ".md")
		if err := os.WriteFile(filepath.Join(target, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// contents are what a template may ask for.
type contents struct {
	Version    string
	Date       string // year-month-day
	Commands   []*urfave.Command
	Words      []cli.Word
	OtherWords string
	Formats    []vdcore.Backend
}

// page makes roff of a template.
func page(source, version, date string) ([]byte, error) {
	t, err := template.New(filepath.Base(source)).Funcs(template.FuncMap{
		"text": escape, "options": options, "join": func(list []string) string { return escape(strings.Join(list, ", ")) },
	}).ParseFiles(source)
	if err != nil {
		return nil, err
	}
	var words []string
	for _, w := range cli.OtherWords() {
		words = append(words, strings.TrimSuffix(w, "="))
	}
	var markdown bytes.Buffer
	err = t.Execute(&markdown, contents{version, date, cli.App().VisibleCommands(), cli.MountWords(), escape(strings.Join(words, ", ")), vdcore.Backends()})
	return plain(md2man.Render(markdown.Bytes())), err
}

// plain writes letters beyond ASCII as roff's escapes: what groff reads depends on where
// it runs.
func plain(roff []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(roff) {
		if r < 128 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.Bytes()
}

// escape protects what Markdown would take for marks.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `_`, `\_`, `[`, `\[`, `]`, `\]`, `<`, `\<`, `>`, `\>`, "`", "\\`", `#`, `\#`).Replace(s)
}

// options is a list of a command's flags.
func options(flags []urfave.Flag) string {
	var b strings.Builder
	for _, f := range flags {
		var names []string
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			names = append(names, "**"+escape(dashes+name)+"**")
		}
		value := ""
		if p := cli.Placeholder(f); p != "" {
			value = " *" + escape(p) + "*"
		}
		fmt.Fprintf(&b, "%s%s\n:   %s\n\n", strings.Join(names, ", "), value, escape(cli.FlagUsage(f)))
	}
	return b.String()
}
