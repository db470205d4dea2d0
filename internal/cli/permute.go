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
	head, rest := args[:at+1], args[at+1:]
	var options, arguments []string
	for i := 0; i < len(rest); i++ {
		switch a := rest[i]; {
		case a == "--":
			arguments = append(arguments, rest[i+1:]...)
			i = len(rest)
		case a == "-" || !strings.HasPrefix(a, "-"):
			arguments = append(arguments, a)
		default:
			options = append(options, a)
			if takesValue(command, a) && i+1 < len(rest) {
				i++
				options = append(options, rest[i])
			}
		}
	}
	return slices.Concat(head, options, []string{"--"}, arguments)
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
