package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

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
			&cli.StringFlag{Name: "size", Usage: "of the disk: `BYTES`, or with K, M, G, T, P (powers of 1024)"},
			&cli.StringFlag{Name: "variant", Usage: "dynamic, fixed …: a `VARIANT` that vdfs formats lists"},
			&cli.StringFlag{Name: "block-size", Usage: "what the image grows by, `BYTES` as above"},
			&cli.StringFlag{Name: "uuid", Usage: "identity of the image: `UUID|random`, which is the default"},
			&cli.StringFlag{Name: "comment", Usage: "`TEXT` to keep in the image"},
			&cli.StringFlag{Name: "geometry", Aliases: []string{"pchs"}, Usage: "physical geometry, `C/H/S`"},
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
	ctx, stop := untilSignal(c)
	defer stop()
	err = imgops.Create(ctx, args[0], o, progress(c, "creating"))
	switch {
	case errors.Is(err, imgops.ErrExtension):
		return usageError{err.Error()}
	case errors.Is(err, vdcore.ErrUnsupported): // nothing was opened: it is what was asked for
		return usageError{err.Error()}
	case errors.Is(err, context.Canceled):
		return codedError{fmt.Errorf("%w; nothing is left of it", err), exitIO}
	}
	return explainExisting(err, o.Force)
}

// explainExisting adds what to do about a new image's name that is taken.
func explainExisting(err error, force bool) error {
	if force || !errors.Is(err, os.ErrExist) {
		return err
	}
	return fmt.Errorf("%w; --force replaces an image, or choose another name", err)
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
	for flag, to := range map[string]*vdcore.Geometry{"geometry": &o.PCHS, "lchs": &o.LCHS} {
		if !c.IsSet(flag) {
			continue
		}
		g, err := parseGeometry(flag, c.String(flag))
		if err != nil {
			return o, err
		}
		if *to = *g; *g == (vdcore.Geometry{}) { // would mean that none is given
			return o, usageError{"--" + flag + ": a geometry of zeros is none"}
		}
	}
	if c.IsSet("uuid") {
		id, err := parseUUID("uuid", c.String("uuid"), true)
		if err != nil {
			return o, err
		}
		if o.UUID = *id; *id == uuid.Nil {
			return o, usageError{"--uuid: the null UUID is none"}
		}
	}
	return o, nil
}
