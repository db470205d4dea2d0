package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"vdfs/fs"
	"vdfs/vdcore"
)

func mountCommand() *cli.Command {
	return &cli.Command{
		Name: "mount", Usage: "show images as flat files below MOUNTPOINT",
		ArgsUsage: "IMAGE… MOUNTPOINT",
		Description: "MOUNTPOINT/<image>/disk.raw is the disk, snapshots/ its lower states, info.json what\n" +
			"it is made of. A MOUNTPOINT that is a file shows the disk of one image itself. IMAGE may be a\n" +
			"machine (.vbox, .vmx, .ovf, .ova, .box, or its folder): all its disks, snapshots by name.\n" +
			"Read-only unless --rw or --overlay is given; returns when the mount answers. Lower states\n" +
			"and parents are never written to. What was written is on disk after fsync, and after\n" +
			"vdfs umount has returned with 0.",
		Flags: append(openFlags(),
			&cli.BoolFlag{Name: "rw", Usage: "what is written goes into the images named"},
			&cli.StringFlag{Name: "overlay", Usage: "what is written goes into `FILE.vdi|FILE.vmdk|tmp`, a differencing image on top, made if need be; tmp is gone at unmount"},
			breakChildrenFlag(),
			&cli.StringFlag{Name: "kernel-reads", Value: kernelAuto, Usage: "let the kernel read disks nobody writes to past vdfs, `auto|off|require`: where it can, never, or else fail"},
			&cli.StringFlag{Name: "verify", Usage: "compare the image files with the manifest `FILE` of vdfs hash, now and at unmount"},
			&cli.StringFlag{Name: "audit", Usage: "append who does what, as JSON lines, to `FILE`"},
			&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "stay in front until unmounted"},
			&cli.BoolFlag{Name: "auto-unmount", Usage: "unmount when the process that serves is killed"},
			&cli.StringFlag{Name: "pid-file", Usage: "write the number of the process that serves to `FILE`, which is removed at the end"},
			&cli.StringSliceFlag{Name: "o", Usage: optionsUsage()},
			// What only a helper of mount(8) says, see helperCall.
			&cli.BoolFlag{Name: "by-mount", Hidden: true},
			&cli.BoolFlag{Name: "sloppy", Hidden: true},
			&cli.BoolFlag{Name: "fake", Hidden: true},
		),
		Action: runMount,
	}
}

// mountRequest is a parsed command line.
type mountRequest struct {
	images     []string
	disk       string // of a machine among them
	mountpoint string // absolute
	open       vdcore.Options
	options    mountOptions
	overlay    string // its file, overlayTemp, or "" for none

	kernelReads fs.KernelReads
	witness     witness

	fsName string      // for the mount table; "" names the image
	made   string      // the overlay, if this request made it
	disks  []fs.Source // what is mounted
}

func runMount(c *cli.Context) error {
	req, err := parseMount(c)
	if err != nil {
		return err
	}
	if c.Bool("fake") {
		return req.pretend()
	}
	ready := daemonPipe()
	if ready == nil && !c.Bool("foreground") {
		return startDaemon(req.mountpoint, c.Bool("by-mount"))
	}
	for _, word := range req.options.unknown {
		warnOf("-o %s is not known, and passed over", word)
	}
	return req.run(c, ready)
}

// mount opens all images, then mounts. What is wrong with an image or with the
// mountpoint is said before anything is mounted.
func (r *mountRequest) mount(signals chan os.Signal) (*fs.Server, error) {
	images, err := r.expand()
	if err != nil {
		return nil, err
	}
	if err := checkMountpoint(r.mountpoint, len(images), r.options.nonempty); err != nil {
		return nil, err
	}
	if err := r.witness.begin(r); err != nil {
		return nil, err
	}
	ctx, stop := untilOneOf(signals)
	defer stop()
	o := r.options.fsOptions()
	o.Mountpoint, o.Log, o.Version, o.KernelReads = r.mountpoint, log, version(), r.kernelReads
	for _, image := range images {
		source, err := r.verifiedSource(ctx, image)
		if source.Chain != nil {
			o.Disks = append(o.Disks, source)
			for _, chain := range append(source.Branches, source.Chain) {
				err = errors.Join(err, checkHidden(chain, r.mountpoint))
			}
		}
		if err != nil {
			return nil, errors.Join(err, closeSources(o.Disks))
		}
	}
	if err := r.witness.opened(&o); err != nil {
		return nil, errors.Join(err, closeSources(o.Disks))
	}
	o.FsName, r.disks = r.fsName, o.Disks
	server, err := fs.Mount(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFUSE, err)
	}
	return server, nil
}

// pretend does what can be done without mounting or changing anything.
func (r *mountRequest) pretend() error {
	images, err := r.expand()
	if err != nil {
		return err
	}
	if err := checkMountpoint(r.mountpoint, len(images), r.options.nonempty); err != nil {
		return err
	}
	r.open.Write = false
	for _, image := range images {
		s, err := image.open(r.open)
		if err == nil {
			err = errors.Join(checkHidden(s.Chain, r.mountpoint), s.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// source opens one image, and says what the user should know about it.
func (r *mountRequest) source(image named) (fs.Source, error) {
	if r.overlay != "" {
		return r.overlaySource(image)
	}
	s, err := image.open(r.open)
	if err != nil {
		return fs.Source{}, err
	}
	warn(s.Chain)
	return s, nil
}

func closeSources(list []fs.Source) error {
	var errs []error
	for _, s := range list {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
