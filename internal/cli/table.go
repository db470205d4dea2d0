package cli

import "github.com/urfave/cli/v2"

// What the manual is made of; see internal/manual.

// App is the table of commands.
func App() *cli.App { return newApp() }

// Word is one word of mount's -o.
type Word struct {
	Name  string
	Value string // a placeholder; "" takes none
	Usage string
}

// MountWords are the words of -o that mean something.
func MountWords() []Word {
	var list []Word
	for _, w := range optionWords(newApp().Command("mount")) {
		list = append(list, Word{w.name, w.value, w.usage})
	}
	return list
}

// OtherWords are those that are taken and change nothing; with "=", a value follows.
func OtherWords() []string { return otherWords }

// Placeholder is what stands for a flag's value in its help; "" if it takes none.
func Placeholder(f cli.Flag) string { return placeholder(f) }

// FlagUsage is the help of a flag, without the marks around its placeholder.
func FlagUsage(f cli.Flag) string { return usageOf(f) }
