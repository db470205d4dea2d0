// Package cli is the command line: one file a command, which turns flags into an
// options struct, makes one call and prints.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	_ "vdfs/formats/all"
	"vdfs/vdcore"
)

// log writes to stderr; the daemon of `mount` points it elsewhere.
var log zerolog.Logger

// Run runs one command line and returns the exit code.
func Run(args []string) int {
	if isHelper(args) {
		return runHelper(args)
	}
	app := newApp()
	err := app.Run(permute(app, args))
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errReported) {
		complain(red, "vdfs:", cleanLines(err.Error()))
	}
	return exitCode(err)
}

func newApp() *cli.App {
	commands := allCommands()
	for _, c := range commands {
		c.OnUsageError = usage
	}
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version"}
	return &cli.App{
		Name:      "vdfs",
		Usage:     "show virtual disk images (VDI, VMDK, raw), snapshots included, as flat raw files, and write to them",
		UsageText: "vdfs COMMAND [options] IMAGE…\n\nvdfs mount win10.vdi /mnt   then /mnt/win10/disk.raw is the disk\nvdfs info win10.vdi         what it is\nvdfs copy win10.vdi out.raw without mounting",
		Version:   version(),
		Description: "Exit codes: 0 done, 1 usage, 2 cannot open or unknown format, 3 chain incomplete,\n" +
			"4 integrity or identity mismatch, 5 in use, 6 FUSE unavailable or no permission,\n" +
			"7 I/O error or no space, 8 an image changed while mounted, 9 compared disks differ.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say more"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "only errors, no progress"},
		},
		Before: func(c *cli.Context) error {
			log = newLogger(os.Stderr, c)
			return nil
		},
		Commands:               commands,
		UseShortOptionHandling: true,
		// A comma in a name of a file or folder is a comma.
		DisableSliceFlagSeparator: true,
		HideHelpCommand:           true,
		ExitErrHandler:            func(*cli.Context, error) {}, // Run decides
		OnUsageError:              usage,
		CommandNotFound:           func(*cli.Context, string) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError{fmt.Sprintf("no command %q; see vdfs --help", c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
	}
}

// allCommands are the commands in the order of the help and the manual. Those without
// a category come first there, and categories are sorted by their names.
func allCommands() []*cli.Command {
	list := []*cli.Command{mountCommand(), umountCommand(), listCommand(), attachCommand(), detachCommand()}
	for _, group := range []struct {
		category string
		commands []*cli.Command
	}{
		{"Inspect", []*cli.Command{infoCommand(), mapCommand(), chainCommand(), compareCommand(), diffCommand(), hashCommand(), checkCommand()}},
		{"Make", []*cli.Command{copyCommand(), convertCommand(), createCommand(), snapshotCommand()}},
		{"Modify", []*cli.Command{mergeCommand(), compactCommand(), resizeCommand(), setCommand(), renameCommand(), rmCommand()}},
		{"System", []*cli.Command{doctorCommand(), selftestCommand(), formatsCommand(), completionCommand(), versionCommand()}},
	} {
		for _, c := range group.commands {
			c.Category = group.category
		}
		list = append(list, group.commands...)
	}
	return append(list, watchCommand(), completeCommand()) // for itself
}

// usage is what is wrong with the options. Those who know --allow-incomplete from
// another command learn why this one has none.
func usage(c *cli.Context, err error, _ bool) error {
	program := "vdfs"
	if c.Command.Name != c.App.Name {
		program += " " + c.Command.Name
	}
	text := err.Error()
	if name, is := strings.CutPrefix(text, "flag provided but not defined: "); is {
		if name == "-allow-incomplete" || name == "-fill" {
			return usageError{c.Command.Name + " takes no --allow-incomplete: " + whyComplete(c.Command.Name)}
		}
		text = "no option " + dashed(name)
	} else if name, is := strings.CutPrefix(text, "flag needs an argument: "); is {
		text = dashed(name) + " takes a value"
	}
	return usageError{text + "; see " + program + " --help"}
}

// dashed is an option as people write it, of what the library has with one dash.
func dashed(name string) string {
	if len(name) > 2 {
		return "-" + name
	}
	return name
}

// whyComplete says why a command has no --allow-incomplete.
func whyComplete(command string) string {
	switch command {
	case "check":
		return "it always opens what can be opened"
	case "rm", "rename", "set":
		return "it needs no parents"
	case "completion", "create", "detach", "doctor", "formats", "list", "umount", "version":
		return "it opens no image"
	case "selftest":
		return "what it tries are images that are whole"
	}
	return "what is missing cannot be filled in when the image is written to; vdfs copy --allow-incomplete --fill=zero makes a whole disk of the rest"
}

func newLogger(w io.Writer, c *cli.Context) zerolog.Logger {
	level := zerolog.InfoLevel
	switch {
	case c.Bool("quiet"):
		level = zerolog.ErrorLevel
	case c.Bool("verbose"):
		level = zerolog.DebugLevel
	}
	out := zerolog.ConsoleWriter{Out: w, NoColor: true, PartsExclude: []string{zerolog.TimestampFieldName}}
	return zerolog.New(out).Level(level)
}

// untilSignal returns a context that ends when the user or the system says so. A
// second signal ends the process whatever it waits for.
func untilSignal(c *cli.Context) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// openFlags are what a command takes that reads a disk.
func openFlags() []cli.Flag {
	return slices.Concat(parentFlags(), []cli.Flag{diskFlag()}, incompleteFlags())
}

// incompleteFlags are what a command takes that reads what is left of a disk.
func incompleteFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "allow-incomplete", Usage: "open what can be opened; the rest reads as --fill says"},
		&cli.StringFlag{Name: "fill", Value: "eio", Usage: "what unreadable ranges read as: `eio|zero`"},
	}
}

// parentFlags are what a command takes that opens an image and its parents.
func parentFlags() []cli.Flag {
	return append(imageFlags(), parentFlag(),
		&cli.BoolFlag{Name: "allow-modified-parent", Usage: "take a parent whose CID (or a --parent file whose UUID) is not the recorded one"})
}

// imageFlags are what every command takes that opens an image.
func imageFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "format", Usage: "read the image as `FORMAT` instead of probing"},
		&cli.StringSliceFlag{Name: "search", Usage: "look for parents and extent files in `DIR` too"},
	}
}

func parentFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "parent", Usage: "try `FILE` first when a parent is looked for"}
}

func breakChildrenFlag() cli.Flag {
	return &cli.BoolFlag{Name: "break-children", Usage: "go ahead although other images were made from this one, or a machine has it; they become wrong"}
}

// openOptions are the open flags in the core's words.
func openOptions(c *cli.Context) (vdcore.Options, error) {
	if f := c.String("format"); f != "" {
		if _, err := vdcore.Lookup(f); err != nil {
			return vdcore.Options{}, usageError{err.Error()}
		}
	}
	o := vdcore.Options{
		Format:              c.String("format"),
		Search:              c.StringSlice("search"),
		Parents:             c.StringSlice("parent"),
		AllowModifiedParent: c.Bool("allow-modified-parent"),
		AllowIncomplete:     c.Bool("allow-incomplete"),
	}
	switch fill := c.String("fill"); fill {
	case "", "eio": // "": the command has no such flag
	case "zero":
		if !o.AllowIncomplete {
			return o, usageError{"--fill=zero goes with --allow-incomplete"}
		}
		o.FillZero = true
	default:
		return o, usageError{fmt.Sprintf("--fill=%s: it is eio or zero", fill)}
	}
	return o, nil
}

// openChain opens the one image a command names, and prints what the user should
// know about it.
func openChain(c *cli.Context, path string) (*vdcore.Chain, error) {
	o, err := openOptions(c)
	if err != nil {
		return nil, err
	}
	chain, err := openNamed(c, path, o)
	if err != nil {
		return nil, err
	}
	warn(chain)
	return chain, nil
}

// openOnly opens the image that is the command's only argument.
func openOnly(c *cli.Context) (*vdcore.Chain, error) {
	args, err := arguments(c, "IMAGE")
	if err != nil {
		return nil, err
	}
	return openChain(c, args[0])
}

// warn prints a chain's warnings; -q does not hide them, they are about the data.
func warn(chain *vdcore.Chain) { warnBut(chain, nil) }

// warnBut leaves out what an error says that is printed in the end.
func warnBut(chain *vdcore.Chain, err error) {
	for _, w := range chain.Warnings() {
		if err == nil || w != err.Error() {
			warnOf("%s", w)
		}
	}
}

func warnOf(format string, args ...any) {
	complain(yellow, "vdfs: warning:", clean(fmt.Sprintf(format, args...)))
}

// arguments returns the command's arguments, which must be as many as names.
func arguments(c *cli.Context, names ...string) ([]string, error) {
	if c.NArg() != len(names) {
		want := cmp.Or(strings.Join(names, " "), "no arguments")
		return nil, usageError{fmt.Sprintf("%s takes %s; see vdfs %s --help", c.Command.Name, want, c.Command.Name)}
	}
	return c.Args().Slice(), nil
}
