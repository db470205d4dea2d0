package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func convertCommand() *cli.Command {
	return &cli.Command{
		Name: "convert", Usage: "make an image of another format or variant, or of a whole chain",
		ArgsUsage: "IMAGE TARGET|-",
		Description: "TARGET is a new image of the whole disk, as the topmost image sees it; its extension decides\n" +
			"the format, unless --to does. What reads as zeros takes no space. With - the image goes to stdout,\n" +
			"as raw, or as --to vmdk --variant stream. With --keep-chain TARGET is a folder, made if need be, that\n" +
			"gets an image for each layer, named after it, with the one below as its parent. Nothing is\n" +
			"overwritten, unless --force replaces an image once the new one is whole. What was not finished\n" +
			"is removed.",
		Flags: append(openFlags(),
			&cli.StringFlag{Name: "to", Usage: "make a `FORMAT` image: vdi, vmdk or raw"},
			&cli.StringFlag{Name: "variant", Usage: "dynamic, fixed, stream …: a `VARIANT` that vdfs formats lists"},
			&cli.BoolFlag{Name: "keep-chain", Usage: "convert layer by layer into the folder TARGET"},
			&cli.BoolFlag{Name: "force", Usage: "replace an image that is there, when the new one is whole"},
			noSyncFlag(),
			&cli.StringFlag{Name: "checksum", Usage: "print a checksum of the disk: `sha256`"}),
		Action: runConvert,
	}
}

func noSyncFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-sync", Usage: "do not wait until it is on disk: after a crash it may open and hold zeros for data, and an error of the disk shows to nobody"}
}

func runConvert(c *cli.Context) error {
	o, err := conversion(c)
	if err != nil {
		return err
	}
	args, err := arguments(c, "IMAGE", "TARGET")
	if err != nil {
		return err
	}
	return explainExisting(convert(c, args[0], args[1], o), o.Force)
}

// conversion is what the options ask for.
func conversion(c *cli.Context) (imgops.Conversion, error) {
	o := imgops.Conversion{Format: c.String("to"), Variant: c.String("variant"), Force: c.Bool("force"), NoSync: c.Bool("no-sync"), Progress: progress(c, "converting")}
	if o.Format != "" {
		if _, err := vdcore.Lookup(o.Format); err != nil {
			return o, usageError{err.Error()}
		}
	}
	switch sum := c.String("checksum"); sum {
	case "":
	case "sha256":
		o.Checksum = true
	default:
		return o, usageError{fmt.Sprintf("--checksum=%s: only sha256 is known", sum)}
	}
	if c.Bool("keep-chain") && o.Format == "" {
		return o, usageError{"--keep-chain goes with --to: a folder does not tell the format"}
	}
	if o.Force && o.NoSync {
		return o, usageError{"--force replaces an image once the new one is on disk, which --no-sync does not wait for"}
	}
	if c.Bool("keep-chain") && o.Force {
		return o, usageError{"--force replaces one image, not those of --keep-chain: name another folder"}
	}
	return o, nil
}

// convert makes target of an image, and prints what was asked for.
func convert(c *cli.Context, image, target string, o imgops.Conversion) error {
	stdout := target == "-"
	switch {
	case stdout && c.Bool("keep-chain"):
		return usageError{"--keep-chain makes several files, which do not go to stdout"}
	case stdout && term.IsTerminal(int(os.Stdout.Fd())):
		return usageError{"not writing a disk to a terminal; redirect stdout or name a file"}
	}
	chain, err := openChain(c, image)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(c)
	defer stop()
	made := make([]imgops.Made, 1)
	report := c.App.Writer
	switch {
	case stdout:
		if o.Format == "" {
			o.Format = "raw"
		}
		report = os.Stderr
		made[0], err = imgops.ConvertTo(ctx, chain, os.Stdout, o)
	case c.Bool("keep-chain"):
		made, err = imgops.ConvertChain(ctx, chain, target, o)
	default:
		made[0], err = imgops.Convert(ctx, chain, target, o)
	}
	if err = errors.Join(explainConvert(err, o.Force), chain.Close()); err != nil {
		return err
	}
	return printMade(report, made)
}

// explainConvert adds to what went wrong what to do.
func explainConvert(err error, force bool) error {
	switch {
	case errors.Is(err, imgops.ErrExtension):
		return usageError{err.Error()}
	case errors.Is(err, vdcore.ErrUnsupported): // the source is open: it is what was asked for
		return usageError{err.Error()}
	case errors.Is(err, context.Canceled):
		return codedError{err, exitIO}
	}
	return explainLost(err)
}

// explainLost adds what to do to the error of a disk that cannot be read to its end.
func explainLost(err error) error {
	if errors.Is(err, vdcore.ErrLost) {
		return fmt.Errorf("%w; --allow-incomplete --fill=zero takes zeros there", err)
	}
	return err
}

// printMade prints the checksums, and warns of disks that became longer.
func printMade(w io.Writer, made []imgops.Made) error {
	for _, m := range made {
		if m.Padded > 0 {
			warnOf("the disk is no whole number of sectors: the new one is %d bytes longer, zeros", m.Padded)
		}
		if m.SHA256 == nil {
			continue
		}
		if _, err := fmt.Fprintf(w, "sha256 %x %s\n", m.SHA256, clean(m.Path)); err != nil {
			return err
		}
	}
	return nil
}
