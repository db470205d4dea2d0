package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// permute moves a command's options before its arguments, so that they may stand
// anywhere, as mount(8) and every GNU tool allow. What follows "--" stays as it is.
func permute(app *cli.App, args []string) []string {
	at := 1
	for at < len(args) && strings.HasPrefix(args[at], "-") {
		at++ // the program's own options take no values
	}
	if at >= len(args) {
		return args
	}
	command := app.Command(args[at])
	if command == nil {
		return args
	}
	sorted := line{command: command, global: args[:at:at]}
	for rest := args[at+1:]; len(rest) > 0; {
		rest = sorted.take(rest)
	}
	return slices.Concat(sorted.global, args[at:at+1], sorted.options, sorted.end, sorted.arguments)
}

// line is a command line sorted into its parts.
type line struct {
	command   *cli.Command
	global    []string // the program's name and its own options
	options   []string
	end       []string // "--", unless an option lacks its value: then it comes last
	arguments []string
}

// take sorts in the first word of rest, with its value, and returns what is left.
func (l *line) take(rest []string) []string {
	l.end = []string{"--"}
	word, rest := rest[0], rest[1:]
	switch {
	case word == "--":
		l.arguments = append(l.arguments, rest...)
		return nil
	case word == "-" || !strings.HasPrefix(word, "-"):
		l.arguments = append(l.arguments, word)
	case slices.Contains([]string{"-v", "-q", "--verbose", "--quiet"}, word):
		l.global = append(l.global, word)
	case !takesValue(l.command, word):
		l.options = append(l.options, word)
	case len(rest) == 0:
		l.options, l.arguments = slices.Concat(l.options, []string{word}), nil
		l.end = nil
	default:
		l.options = append(l.options, word, rest[0])
		return rest[1:]
	}
	return rest
}

// takesValue reports whether the word after an option belongs to it.
func takesValue(command *cli.Command, option string) bool {
	name := strings.TrimLeft(option, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range command.Flags {
		if _, isSwitch := f.(*cli.BoolFlag); slices.Contains(f.Names(), name) {
			return !isSwitch
		}
	}
	return false
}
