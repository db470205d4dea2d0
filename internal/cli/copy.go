package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func copyCommand() *cli.Command {
	return &cli.Command{
		Name: "copy", Usage: "copy the disk to a sparse raw file, or to stdout",
		ArgsUsage: "IMAGE FILE|-",
		Description: "Writes the disk as the topmost image sees it. FILE must not exist; what reads as\n" +
			"zeros becomes a hole. With - the whole disk goes to stdout.",
		Flags:  openFlags(),
		Action: runCopy,
	}
}

func runCopy(c *cli.Context) error {
	args, err := arguments(c, "IMAGE", "FILE")
	if err != nil {
		return err
	}
	if args[1] == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
		return usageError{"not writing a disk to a terminal; redirect stdout or name a file"}
	}
	chain, err := openChain(c, args[0])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it whatever it waits for
	done := progress(c, "copying")
	if args[1] == "-" {
		err = imgops.CopyTo(ctx, chain.Top(), os.Stdout, done)
	} else {
		err = imgops.CopyFile(ctx, chain.Top(), args[1], done)
	}
	if errors.Is(err, os.ErrExist) {
		err = fmt.Errorf("%w; vdfs never overwrites, remove it or choose another name", err)
	}
	if errors.Is(err, vdcore.ErrLost) {
		err = fmt.Errorf("%w; --fill=zero copies the rest with zeros there", err)
	}
	return errors.Join(err, chain.Close())
}

// progress shows a bar on a terminal for what takes over two seconds.
func progress(c *cli.Context, what string) imgops.Progress {
	if c.Bool("quiet") || !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	began := time.Now()
	bar := sync.OnceValue(func() *progressbar.ProgressBar {
		return progressbar.NewOptions64(1, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription(what), progressbar.OptionThrottle(200*time.Millisecond),
			progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
	})
	return func(done, total int64) {
		if time.Since(began) < 2*time.Second {
			return
		}
		bar().ChangeMax64(total)
		bar().Set64(done)
	}
}
