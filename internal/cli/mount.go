package cli

import (
	"errors"
	"fmt"
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
			"it is made of. A MOUNTPOINT that is a file shows the disk of one image itself.\n" +
			"Read-only; returns when the mount answers.",
		Flags: append(openFlags(),
			&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "stay in front until unmounted"},
			&cli.StringSliceFlag{Name: "o", Usage: "`OPTIONS`: allow_other, allow_root, uid=N, gid=N, umask=OCTAL, nonempty, ro"},
		),
		Action: runMount,
	}
}

// mountRequest is a parsed command line.
type mountRequest struct {
	images     []string
	mountpoint string // absolute
	open       vdcore.Options
	options    mountOptions
}

func runMount(c *cli.Context) error {
	req, err := parseMount(c)
	if err != nil {
		return err
	}
	ready := daemonPipe()
	if ready == nil && !c.Bool("foreground") {
		return startDaemon(req.mountpoint)
	}
	out := &daemonLog{target: os.Stderr}
	log = newLogger(out, c)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	server, err := req.mount()
	if err != nil {
		return err
	}
	if ready != nil {
		if err := becomeDaemon(ready, out); err != nil {
			return errors.Join(err, server.Unmount(), server.Wait())
		}
	}
	return serve(server, signals)
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
	req := &mountRequest{images: args[:len(args)-1]}
	if req.open, err = openOptions(c); err != nil {
		return nil, err
	}
	if req.options, err = parseMountOptions(c.StringSlice("o")); err != nil {
		return nil, err
	}
	req.mountpoint, err = filepath.Abs(args[len(args)-1])
	return req, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// mount opens all images, then mounts. What is wrong with an image or with the
// mountpoint is said before anything is mounted.
func (r *mountRequest) mount() (*fs.Server, error) {
	if err := checkMountpoint(r.mountpoint, len(r.images), r.options.nonempty); err != nil {
		return nil, err
	}
	o := r.options.fsOptions()
	o.Mountpoint, o.Log, o.Version = r.mountpoint, log, version()
	for _, image := range r.images {
		chain, err := vdcore.Open(image, r.open)
		if err != nil {
			return nil, errors.Join(err, closeSources(o.Disks))
		}
		warn(chain)
		o.Disks = append(o.Disks, fs.Source{Chain: chain})
		if err := checkHidden(chain, r.mountpoint); err != nil {
			return nil, errors.Join(err, closeSources(o.Disks))
		}
	}
	server, err := fs.Mount(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFUSE, err)
	}
	return server, nil
}

func closeSources(list []fs.Source) error {
	var errs []error
	for _, s := range list {
		errs = append(errs, s.Chain.Close())
	}
	return errors.Join(errs...)
}

// serve waits for the end of the mount. A signal asks for it; a mount in use
// stays, and the next signal asks again.
func serve(server *fs.Server, signals <-chan os.Signal) error {
	done := make(chan error, 1)
	go func() { done <- server.Wait() }()
	log.Debug().Str("mountpoint", server.Mountpoint()).Msg("mounted")
	for {
		select {
		case err := <-done:
			log.Debug().Str("mountpoint", server.Mountpoint()).Msg("unmounted")
			return err
		case sig := <-signals:
			if err := server.Unmount(); err != nil {
				log.Error().Msgf("%v: not unmounted, still serving: %s", sig, clean(err.Error()))
			}
		}
	}
}
