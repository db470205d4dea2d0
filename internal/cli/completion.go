package cli

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"

	"vdfs/fs"
	"vdfs/vdcore"
)

//go:embed completion
var completionScripts embed.FS

// shells are those that completion is for.
var shells = []string{"bash", "fish", "zsh"}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print what makes a shell complete vdfs's command lines",
		ArgsUsage: strings.Join(shells, "|"),
		Description: "The packages install it. By hand: source <(vdfs completion bash), the same for zsh, and\n" +
			"vdfs completion fish | source, in the start-up file of the shell.",
		Action: func(c *cli.Context) error {
			args, err := arguments(c, strings.Join(shells, "|"))
			if err != nil {
				return err
			}
			if !slices.Contains(shells, args[0]) {
				return usageError{fmt.Sprintf("completion %s: it is for %s", args[0], strings.Join(shells, ", "))}
			}
			text, err := completionScripts.ReadFile("completion/vdfs." + args[0])
			if err == nil {
				_, err = c.App.Writer.Write(text)
			}
			return err
		},
	}
}

// completeCommand is what the scripts call with all words after the program's name,
// the last one being that under the cursor. It prints which files may stand there
// ("none", "files", "dirs", or "images" and the endings of their names), and then other
// words, one a line, with a tab and what they mean.
func completeCommand() *cli.Command {
	return &cli.Command{
		Name: "complete", Hidden: true,
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) == 0 {
				return usageError{"complete takes the words of a command line"}
			}
			complete(c.App, words[:len(words)-1], words[len(words)-1]).print(c.App.Writer)
			return nil
		},
	}
}

// completions are what may stand at a place.
type completions struct {
	kind  string
	words [][2]string // and what they mean
}

const noFiles, anyFile, anyDir = "none", "files", "dirs"

func (l *completions) print(w io.Writer) {
	fmt.Fprintln(w, l.kind)
	for _, word := range l.words {
		fmt.Fprintf(w, "%s\t%s\n", word[0], word[1])
	}
}

// add adds a word that begins as what is there already.
func (l *completions) add(begin, word, meaning string) {
	if strings.HasPrefix(word, begin) {
		l.words = append(l.words, [2]string{word, meaning})
	}
}

// complete says what may stand at the end of a line.
func complete(app *cli.App, before []string, cur string) *completions {
	before = slices.DeleteFunc(slices.Clone(before), func(w string) bool { return w == "=" }) // bash splits there
	if cur == "=" {
		cur = ""
	}
	at := slices.IndexFunc(before, func(w string) bool { return !strings.HasPrefix(w, "-") })
	if at < 0 {
		return completeVerb(app, cur)
	}
	command := app.Command(before[at])
	if command == nil {
		return &completions{kind: noFiles}
	}
	before = before[at+1:]
	if len(before) > 0 {
		if f := flagOf(command, before[len(before)-1]); f != nil && placeholder(f) != "" {
			return completeValue(command, f, "", cur)
		}
	}
	if name, value, ok := strings.Cut(cur, "="); ok && strings.HasPrefix(cur, "-") {
		if f := flagOf(command, name); f != nil {
			return completeValue(command, f, name+"=", value)
		}
	}
	if strings.HasPrefix(cur, "-") {
		l := &completions{kind: noFiles}
		l.addFlags(command.Flags, cur)
		return l
	}
	return completeArgument(command, before, cur)
}

func completeVerb(app *cli.App, cur string) *completions {
	l := &completions{kind: noFiles}
	if strings.HasPrefix(cur, "-") {
		l.addFlags(app.Flags, cur)
		return l
	}
	for _, c := range app.VisibleCommands() {
		l.add(cur, c.Name, c.Usage)
	}
	return l
}

// flagOf is the flag a word names: "--search" or "-o".
func flagOf(command *cli.Command, word string) cli.Flag {
	if !strings.HasPrefix(word, "-") {
		return nil
	}
	for _, f := range command.Flags {
		if slices.Contains(f.Names(), strings.TrimLeft(word, "-")) {
			return f
		}
	}
	return nil
}

func (l *completions) addFlags(flags []cli.Flag, cur string) {
	for _, f := range flags {
		if !isVisible(f) {
			continue
		}
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			l.add(cur, dashes+name, usageOf(f))
		}
	}
}

// usageOf is a flag's help without the marks of its placeholder.
func usageOf(f cli.Flag) string {
	if d, ok := f.(cli.DocGenerationFlag); ok {
		return strings.ReplaceAll(d.GetUsage(), "`", "")
	}
	return ""
}

// completeArgument goes by the command's own words for its arguments; the last one is
// for all that follow.
func completeArgument(command *cli.Command, before []string, cur string) *completions {
	n := 0
	for i, word := range before {
		var f cli.Flag
		if i > 0 {
			f = flagOf(command, before[i-1])
		}
		if !strings.HasPrefix(word, "-") && (f == nil || placeholder(f) == "") {
			n++
		}
	}
	names := strings.Fields(command.ArgsUsage)
	if len(names) == 0 {
		return &completions{kind: noFiles}
	}
	l := &completions{kind: anyFile}
	switch name := names[min(n, len(names)-1)]; {
	case strings.HasPrefix(command.ArgsUsage, "MOUNTPOINT"):
		l.kind = noFiles
		mounts, _ := fs.Mounts()
		for _, m := range mounts {
			l.add(cur, m.Mountpoint, m.Source)
		}
	case strings.Contains(command.ArgsUsage, "IMAGE"), strings.Contains(name, "OVERLAY"):
		l.kind = imageFiles()
	case name == strings.ToLower(name):
		l.kind = noFiles
		l.addEach("", cur, strings.Split(name, "|"), "")
	}
	return l
}

// imageFiles are the files an image may be: those of the formats, and those that name
// the disks of a machine.
func imageFiles() string {
	endings := []string{"raw", "img", "vbox", "vmx", "ovf", "ova"}
	for _, b := range vdcore.Backends() {
		for _, e := range b.Extensions {
			endings = append(endings, strings.TrimPrefix(e, "."))
		}
	}
	slices.Sort(endings)
	return "images " + strings.Join(slices.Compact(endings), " ")
}

// completeValue goes by a flag's placeholder: words in small letters are what may stand
// there.
func completeValue(command *cli.Command, f cli.Flag, begin, cur string) *completions {
	l := &completions{kind: noFiles}
	switch name := f.Names()[0]; name {
	case "o":
		l.addOptions(command, begin, cur)
		return l
	case "format", "to", "variant":
		l.addFormats(name, begin, cur)
		return l
	case "parent", "overlay":
		l.kind = imageFiles()
	}
	for word := range strings.SplitSeq(placeholder(f), "|") {
		switch {
		case l.kind == noFiles && strings.Contains(word, "DIR"):
			l.kind = anyDir
		case l.kind == noFiles && strings.Contains(word, "FILE"):
			l.kind = anyFile
		case strings.IndexFunc(word, unicode.IsUpper) < 0:
			l.addEach(begin, cur, []string{word}, "")
		}
	}
	return l
}

// addEach adds words that stand after what is fixed already.
func (l *completions) addEach(fixed, cur string, words []string, meaning string) {
	for _, word := range words {
		l.add(fixed+cur, fixed+word, meaning)
	}
}

func (l *completions) addFormats(flag, begin, cur string) {
	var seen []string
	for _, b := range vdcore.Backends() {
		if flag == "format" || flag == "to" && len(b.Makes) > 0 {
			l.add(begin+cur, begin+b.Name, b.Title)
		}
		for _, m := range b.Makes {
			if flag == "variant" && !slices.Contains(seen, m.Name) {
				seen = append(seen, m.Name)
				l.add(begin+cur, begin+m.Name, m.Variant)
			}
		}
	}
}

// addOptions adds the words of -o, after those that are there.
func (l *completions) addOptions(command *cli.Command, begin, cur string) {
	if at := strings.LastIndexByte(cur, ','); at >= 0 {
		begin, cur = begin+cur[:at+1], cur[at+1:]
	}
	for _, w := range optionWords(command) {
		word := w.name
		if w.value != "" {
			word += "="
		}
		l.add(begin+cur, begin+word, w.usage)
	}
}
