package cli

import (
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"vdfs/vdcore/imgops"
)

func copyCommand() *cli.Command {
	return &cli.Command{
		Name: "copy", Usage: "copy the disk to a sparse raw file, or to stdout",
		ArgsUsage: "IMAGE FILE|-",
		Description: "Writes the disk as the topmost image sees it. FILE must not exist; what reads as\n" +
			"zeros becomes a hole. With - the whole disk goes to stdout.",
		Flags:  append(openFlags(), noSyncFlag()),
		Action: runCopy,
	}
}

// runCopy is convert to raw, whatever FILE is called.
func runCopy(c *cli.Context) error {
	args, err := arguments(c, "IMAGE", "FILE")
	if err != nil {
		return err
	}
	return explainNew(convert(c, args[0], args[1], imgops.Conversion{Format: "raw", NoSync: c.Bool("no-sync"), Progress: progress(c, "copying")}))
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
