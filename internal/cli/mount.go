package cli

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

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
	out := &daemonLog{target: os.Stderr}
	log = newLogger(out, c)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	pid, err := takePIDFile(c.String("pid-file"))
	if err != nil {
		return err
	}
	defer pid.remove()
	end, err := newOutcome()
	if err != nil {
		return err
	}
	server, err := req.mount(signals)
	if err != nil {
		return errors.Join(err, req.removeMade(), req.witness.end(err, nil))
	}
	if c.Bool("auto-unmount") {
		err = startWatcher(server.Mountpoint())
	}
	if err == nil {
		req.printNext(c, server)
	}
	if ready != nil && err == nil {
		err = becomeDaemon(ready, out)
	}
	if err != nil {
		err = errors.Join(err, server.Unmount(), server.Wait(), req.removeMade())
		return errors.Join(err, req.witness.end(err, server))
	}
	notifyReady(server.Mountpoint())
	err = req.serve(server, signals)
	err = errors.Join(err, req.witness.end(err, server))
	end.tell(err)
	return err
}

func parseMount(c *cli.Context) (*mountRequest, error) {
	args := c.Args().Slice()
	for _, a := range args {
		if strings.HasPrefix(a, "-") && !exists(a) {
			return nil, usageError{fmt.Sprintf("%s: options go before the images", a)}
		}
	}
	if len(args) < 2 {
		return nil, usageError{"mount takes IMAGE… MOUNTPOINT; see vdfs mount --help"}
	}
	var err error
	req := &mountRequest{images: args[:len(args)-1], disk: c.String("disk")}
	if req.options, err = parseMountOptions(c, c.StringSlice("o")); err != nil {
		return nil, err
	}
	if req.open, err = openOptions(c); err != nil {
		return nil, err
	}
	if err = req.parseWriting(c); err != nil {
		return nil, err
	}
	if err = req.parseKernelReads(c.String("kernel-reads")); err != nil {
		return nil, err
	}
	if req.mountpoint, err = filepath.Abs(args[len(args)-1]); err != nil {
		return nil, err
	}
	return req, req.parseWitness(c)
}

// parseWriting says whether, and where to, the mount is written.
func (r *mountRequest) parseWriting(c *cli.Context) error {
	r.open.Write = c.Bool("rw") || r.options.rw
	r.open.BreakChildren = c.Bool("break-children")
	r.overlay = c.String("overlay")
	switch {
	case r.options.ro && (r.open.Write || r.overlay != ""):
		return usageError{"-o ro goes neither with --rw nor with --overlay"}
	case r.open.Write && r.overlay != "":
		return usageError{"--rw writes to the image itself and --overlay leaves it as it is: choose one"}
	case c.IsSet("overlay") && r.overlay == "":
		return usageError{"--overlay takes a file name, or " + overlayTemp}
	case r.open.FillZero && (r.open.Write || r.overlay != ""):
		return usageError{"--fill=zero does not go with writing: zeros made up for what cannot be read would stay"}
	case r.overlay != "" && len(r.images) != 1:
		return usageError{"--overlay goes with one image"}
	case r.open.BreakChildren && !r.open.Write:
		return usageError{"--break-children goes with --rw"}
	case r.overlay == "" || r.overlay == overlayTemp:
		return nil
	}
	var err error
	r.overlay, err = filepath.Abs(r.overlay) // the daemon leaves its folder
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
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

// serve waits for the end of the mount. A signal asks for it; a mount in use
// stays, with everything synced, and the next signal asks again.
func (r *mountRequest) serve(server *fs.Server, signals <-chan os.Signal) error {
	done := make(chan error, 1)
	go func() { done <- server.Wait() }()
	r.witness.start()
	log.Debug().Str("mountpoint", server.Mountpoint()).Msg("mounted")
	for {
		select {
		case err := <-done:
			if err != nil {
				log.Error().Msgf("at the end: %s", cleanLines(err.Error()))
			}
			log.Debug().Str("mountpoint", server.Mountpoint()).Msg("unmounted")
			return err
		case sig := <-signals:
			if r.witness.stop() {
				continue // there is no mount any more
			}
			if err := r.sync(); err != nil {
				log.Error().Msgf("%v: not all is on disk: %s", sig, clean(err.Error()))
			}
			if err := server.Unmount(); err != nil {
				log.Error().Msgf("%v: not unmounted, still serving: %s", sig, clean(err.Error()))
				continue
			}
			r.witness.how = "signal: " + sig.String()
			notify("STOPPING=1", "STATUS=closing the images")
		}
	}
}

// sync makes durable what has reached this process. The rest follows when the
// kernel unmounts.
func (r *mountRequest) sync() error {
	var errs []error
	for _, s := range r.disks {
		if d := s.Chain.Top(); d.Writable() {
			if err := d.Sync(); !errors.Is(err, iofs.ErrClosed) { // the mount has ended meanwhile
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
