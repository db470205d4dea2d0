package cli

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"vdfs/internal/selftest"
)

func selftestCommand() *cli.Command {
	return &cli.Command{
		Name: "selftest", Usage: "try the promises of a read-only mount on this machine",
		ArgsUsage: "[FOLDER|IMAGE]",
		Description: "Makes small images in FOLDER (default: where temporary files go), mounts them, tries to write\n" +
			"in every way there is, reads everything, unmounts, and compares the image files with what they\n" +
			"were. With IMAGE, one that is there is tried instead, as on read-only media: take a copy, what\n" +
			"is to be shown here is that nothing happens to it. One line for each promise; exit code 4 when\n" +
			"one is not kept. What cannot be tried is skipped: root can try more.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: runSelftest,
	}
}

func runSelftest(c *cli.Context) error {
	where := os.TempDir()
	switch c.NArg() {
	case 0:
	case 1:
		where = c.Args().First()
	default:
		return usageError{"selftest takes one FOLDER or IMAGE, or none"}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(c)
	defer stop()
	// A reader who has seen enough (head) is no reason to leave the mount behind.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	results := []selftest.Result{}
	failed := 0
	err = selftest.Run(ctx, selftest.Options{Binary: self, Where: where, Tell: func(r selftest.Result) {
		results = append(results, r)
		if r.Outcome == selftest.Failed {
			failed++
		}
		if !c.Bool("json") {
			fmt.Fprintf(c.App.Writer, "%-8s %s: %s\n", r.Outcome, r.Check, clean(r.Detail))
		}
	}})
	var mount *selftest.MountError
	if errors.As(err, &mount) {
		err = codedError{err, mount.Code}
	}
	if failed > 0 {
		err = errors.Join(err, codedError{fmt.Errorf("%d of %d promises are not kept here", failed, len(results)), exitIntegrity})
	}
	if c.Bool("json") {
		err = errors.Join(printJSON(c.App.Writer, map[string]any{"schema": 1, "where": where, "ok": err == nil, "checks": results}), err)
	}
	return err
}
