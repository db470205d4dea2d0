package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func createCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make an empty image",
		ArgsUsage: "IMAGE",
		Description: "The extension of IMAGE decides the format; vdfs formats lists the variants of each, the\n" +
			"usual one first, and what they take. Fixed ones get all of their space at once. When it is\n" +
			"interrupted nothing is left.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "size", Usage: "of the disk: `BYTES`, or with K, M, G, T (powers of 1024)"},
			&cli.StringFlag{Name: "variant", Usage: "dynamic, fixed …: a `VARIANT` that vdfs formats lists"},
			&cli.StringFlag{Name: "block-size", Usage: "what the image grows by, `BYTES` as above"},
			&cli.StringFlag{Name: "uuid", Usage: "identity of the image; else a random `UUID`"},
			&cli.StringFlag{Name: "comment", Usage: "`TEXT` to keep in the image"},
			&cli.StringFlag{Name: "geometry", Usage: "physical geometry, `C/H/S`"},
			&cli.StringFlag{Name: "lchs", Usage: "logical (BIOS) geometry, `C/H/S`"},
			&cli.BoolFlag{Name: "force", Usage: "replace an image that is there, when the new one is whole"},
		},
		Action: runCreate,
	}
}

func runCreate(c *cli.Context) error {
	args, err := arguments(c, "IMAGE")
	if err != nil {
		return err
	}
	o, err := createOptions(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it whatever it waits for
	err = imgops.Create(ctx, args[0], o, progress(c, "creating"))
	switch {
	case errors.Is(err, imgops.ErrExtension):
		return usageError{err.Error()}
	case errors.Is(err, os.ErrExist) && !o.Force:
		return fmt.Errorf("%w; --force replaces an image, or choose another name", err)
	case errors.Is(err, vdcore.ErrUnsupported): // nothing was opened: it is what was asked for
		return usageError{err.Error()}
	case errors.Is(err, context.Canceled):
		return codedError{fmt.Errorf("create %s: %w; nothing is left of it", args[0], err), exitIO}
	}
	return err
}

// createOptions are the flags in imgops' words.
func createOptions(c *cli.Context) (o imgops.CreateOptions, err error) {
	o = imgops.CreateOptions{Variant: c.String("variant"), Comment: c.String("comment"), Force: c.Bool("force")}
	if !c.IsSet("size") {
		return o, usageError{"create needs --size, as in --size 20G"}
	}
	if o.Capacity, err = parseSize(c, "size"); err != nil {
		return o, err
	}
	if o.BlockSize, err = parseSize(c, "block-size"); err != nil {
		return o, err
	}
	if o.PCHS, err = parseGeometry(c, "geometry"); err != nil {
		return o, err
	}
	if o.LCHS, err = parseGeometry(c, "lchs"); err != nil {
		return o, err
	}
	if c.IsSet("uuid") {
		o.UUID, err = uuid.Parse(c.String("uuid"))
		if err != nil || o.UUID == uuid.Nil {
			return o, usageError{fmt.Sprintf("--uuid %s: not a UUID of an image", c.String("uuid"))}
		}
	}
	return o, nil
}

// parseSize reads a flag of bytes, 0 when it is not given.
func parseSize(c *cli.Context, flag string) (int64, error) {
	text := c.String(flag)
	if !c.IsSet(flag) {
		return 0, nil
	}
	number, shift := text, 0
	if i := strings.IndexByte("KMGTP", strings.ToUpper(text + " ")[max(0, len(text)-1)]); i >= 0 {
		number, shift = text[:len(text)-1], 10*(i+1)
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n == 0 || n > vdcore.MaxCapacity>>shift {
		return 0, usageError{fmt.Sprintf("--%s %s: a number of bytes from 1 to 4096P is expected, as in 20G", flag, text)}
	}
	return int64(n) << shift, nil
}

// parseGeometry reads a flag of cylinders, heads and sectors, all 0 when it is not
// given.
func parseGeometry(c *cli.Context, flag string) (g vdcore.Geometry, err error) {
	if !c.IsSet(flag) {
		return g, nil
	}
	parts := strings.Split(c.String(flag), "/")
	for i, to := range []*uint32{&g.Cylinders, &g.Heads, &g.Sectors} {
		var n uint64
		if len(parts) == 3 {
			n, err = strconv.ParseUint(parts[i], 10, 32)
		}
		if err != nil || n == 0 {
			return g, usageError{fmt.Sprintf("--%s %s: cylinders/heads/sectors are expected, as in 1024/16/63", flag, c.String(flag))}
		}
		*to = uint32(n)
	}
	return g, nil
}
