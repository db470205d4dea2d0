package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func setCommand() *cli.Command {
	return &cli.Command{
		Name: "set", Usage: "change what an image says of itself",
		ArgsUsage: "IMAGE",
		Description: "Changes the header of a VDI or the descriptor of a VMDK, in one step: a crash leaves the old\n" +
			"one or the new one. The content stays. IMAGE must not be in use; one that others were made\n" +
			"from, or that a VirtualBox machine has, keeps its UUIDs.",
		Flags: append(imageFlags(), parentFlag(), breakChildrenFlag(),
			&cli.StringFlag{Name: "comment", Usage: "`TEXT`; \"\" for none"},
			&cli.StringFlag{Name: "uuid", Usage: "the image's own: `UUID|random`"},
			&cli.StringFlag{Name: "modification-uuid", Usage: "`UUID|random`"},
			&cli.StringFlag{Name: "parent-uuid", Usage: "the `UUID` of the parent"},
			&cli.StringFlag{Name: "parent-modification-uuid", Usage: "the `UUID` the parent's content had"},
			&cli.StringFlag{Name: "parent-file", Usage: "the parent's file `NAME` (VMDK)"},
			&cli.StringFlag{Name: "pchs", Aliases: []string{"geometry"}, Usage: "physical geometry: `CYLINDERS/HEADS/SECTORS`"},
			&cli.StringFlag{Name: "lchs", Usage: "logical geometry: `CYLINDERS/HEADS/SECTORS`"}),
		Action: runSet,
	}
}

func runSet(c *cli.Context) error {
	args, err := arguments(c, "IMAGE")
	if err != nil {
		return err
	}
	o, err := openOptions(c)
	if err != nil {
		return err
	}
	if err := refuseMachine(c, o, args[0]); err != nil {
		return err
	}
	e, err := editOptions(c)
	if err != nil {
		return err
	}
	if e == (vdcore.Edit{}) {
		return usageError{"set: nothing to set; see vdfs set --help"}
	}
	o.BreakChildren = c.Bool("break-children")
	warnings, err := imgops.Set(args[0], e, o)
	warnAll(warnings)
	return err
}

// editOptions are the flags in the core's words.
func editOptions(c *cli.Context) (e vdcore.Edit, err error) {
	text := func(flag string) *string {
		if !c.IsSet(flag) {
			return nil
		}
		s := c.String(flag)
		return &s
	}
	e.Comment, e.ParentFile = text("comment"), text("parent-file")
	ids := []struct {
		flag   string
		to     **uuid.UUID
		random bool // may be
	}{
		{"uuid", &e.UUID, true}, {"modification-uuid", &e.ModUUID, true},
		{"parent-uuid", &e.ParentUUID, false}, {"parent-modification-uuid", &e.ParentModUUID, false},
	}
	for _, x := range ids {
		if s := text(x.flag); s != nil {
			if *x.to, err = parseUUID(x.flag, *s, x.random); err != nil {
				return e, err
			}
		}
	}
	for flag, to := range map[string]**vdcore.Geometry{"pchs": &e.PCHS, "lchs": &e.LCHS} {
		if s := text(flag); s != nil {
			if *to, err = parseGeometry(flag, *s); err != nil {
				return e, err
			}
		}
	}
	return e, nil
}

func parseUUID(flag, s string, random bool) (*uuid.UUID, error) {
	if random && s == "random" {
		id, err := uuid.NewRandom()
		return &id, err
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return nil, usageError{fmt.Sprintf("--%s %q is no UUID", flag, s)}
	}
	return &id, nil
}

func parseGeometry(flag, s string) (*vdcore.Geometry, error) {
	parts := strings.Split(s, "/")
	var n [3]uint32
	for i := range n {
		if len(parts) != len(n) {
			break
		}
		v, err := strconv.ParseUint(parts[i], 10, 32)
		if err != nil {
			break
		}
		if n[i] = uint32(v); i == len(n)-1 {
			return &vdcore.Geometry{Cylinders: n[0], Heads: n[1], Sectors: n[2]}, nil
		}
	}
	return nil, usageError{fmt.Sprintf("--%s %q: three numbers are expected, as in 1024/16/63", flag, s)}
}

func warnAll(warnings []string) {
	for _, w := range warnings {
		warnOf("%s", w)
	}
}
