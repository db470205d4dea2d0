package cli

import (
	"errors"
	iofs "io/fs"
	"os"
	"os/signal"
	"runtime/debug"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"vdfs/fs"
)

// openingGC is how many percent the heap may grow between collections while images are
// opened: a long chain leaves megabytes of garbage behind in a few milliseconds, of which
// collecting it meanwhile takes a tenth.
const openingGC = 400

// run mounts, and serves until the mount has ended. ready is where the process that
// started this one waits; nil in the foreground.
func (r *mountRequest) run(c *cli.Context, ready *os.File) error {
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
	usual := debug.SetGCPercent(openingGC)
	server, err := r.mount(signals)
	if err != nil {
		return errors.Join(err, r.removeMade(), r.witness.end(err, nil))
	}
	if err := r.letGo(c, server, ready, out); err != nil {
		err = errors.Join(err, server.Unmount(), server.Wait(), r.removeMade())
		return errors.Join(err, r.witness.end(err, server))
	}
	notifyReady(server.Mountpoint())
	go func() {
		waitForCaller(ready)
		debug.SetGCPercent(usual)
		server.Prepare()
	}()
	err = r.serve(server, signals)
	err = errors.Join(err, r.witness.end(err, server))
	end.tell(err)
	return err
}

// letGo does the last that may fail while somebody waits for the mount.
func (r *mountRequest) letGo(c *cli.Context, server *fs.Server, ready *os.File, out *daemonLog) error {
	if c.Bool("auto-unmount") {
		if err := startWatcher(server.Mountpoint()); err != nil {
			return err
		}
	}
	r.printNext(c, server)
	if ready == nil {
		return nil
	}
	return becomeDaemon(ready, out)
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
