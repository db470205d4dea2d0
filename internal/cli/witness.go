package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"vdfs/fs"
	"vdfs/vdcore"
	"vdfs/vdcore/evidence"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
)

// witness tells of a mount whether its images stay what they were, and who uses them.
type witness struct {
	manifestFile string // absolute; "" for none
	auditFile    string // the same
	progress     imgops.Progress
	open         vdcore.Options // with absolute paths: the daemon leaves its folder

	manifest *imgops.Manifest
	audit    *evidence.Audit // nil for none
	watches  []*evidence.Watch
	verified []string // absolute paths of the images that are compared with the manifest

	how string // the mount ended, as far as is known

	mu     sync.Mutex         // guards ending
	ending context.CancelFunc // nil while mounted
}

func (r *mountRequest) parseWitness(c *cli.Context) error {
	w := &r.witness
	for flag, to := range map[string]*string{"verify": &w.manifestFile, "audit": &w.auditFile} {
		if !c.IsSet(flag) {
			continue
		}
		if c.String(flag) == "" {
			return usageError{fmt.Sprintf("--%s takes a file name", flag)}
		}
		path, err := filepath.Abs(c.String(flag))
		if err != nil {
			return err
		}
		*to = path
	}
	if w.manifestFile == "" {
		return nil
	}
	if err := refuseMachine(c, r.open, r.images...); err != nil {
		return fmt.Errorf("--verify: %w", err)
	}
	if r.open.Write {
		return usageError{"--verify goes with read-only mounts and --overlay: with --rw the image is meant to change"}
	}
	w.progress = progress(c, "verifying")
	w.open = r.open
	var err error
	if w.open.Search, err = absolute(r.open.Search); err == nil {
		w.open.Parents, err = absolute(r.open.Parents)
	}
	return err
}

func absolute(paths []string) (list []string, err error) {
	for _, p := range paths {
		if p, err = filepath.Abs(p); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// begin opens the audit file, and reads the manifest.
func (w *witness) begin(r *mountRequest) (err error) {
	if err := w.beginAudit(r); err != nil {
		return fmt.Errorf("--audit: %w", err)
	}
	if w.manifestFile != "" {
		w.manifest, err = imgops.ReadManifest(w.manifestFile)
	}
	return err
}

func (w *witness) beginAudit(r *mountRequest) (err error) {
	if w.auditFile == "" {
		return nil
	}
	folder, err := storage.Resolve(filepath.Dir(w.auditFile))
	if err != nil {
		return err
	}
	mountpoint := resolveMountpoint(r.mountpoint)
	if path := filepath.Join(folder, filepath.Base(w.auditFile)); path == mountpoint || strings.HasPrefix(path, strings.TrimSuffix(mountpoint, "/")+"/") {
		return usageError{fmt.Sprintf("--audit: the mount on %s would hide %s; put it elsewhere", mountpoint, path)}
	}
	audit, err := evidence.OpenAudit(w.auditFile)
	if err != nil {
		return err
	}
	mode := "ro"
	switch {
	case r.overlay != "":
		mode = "overlay"
	case r.open.Write:
		mode = "rw"
	}
	if err := audit.Begin(evidence.Beginning{
		Arguments: os.Args, Version: version(), Mountpoint: mountpoint, Mode: mode, Manifest: w.manifestFile,
	}); err != nil {
		return err
	}
	w.audit = audit
	return nil
}

// verifiedSource opens one image, after its files were compared with the manifest, if
// there is one.
func (r *mountRequest) verifiedSource(ctx context.Context, image named) (fs.Source, error) {
	w := &r.witness
	if w.manifest == nil {
		return r.source(image)
	}
	path, err := filepath.Abs(image.image)
	if err != nil {
		return fs.Source{}, err
	}
	v, err := imgops.Verify(ctx, w.manifest, path, w.open, w.progress)
	if err == nil {
		err = v.Err()
	}
	w.audit.Verified("begin", err)
	if err != nil {
		return fs.Source{}, explainHash(err)
	}
	w.verified = append(w.verified, path)
	source, err := r.source(image)
	if err != nil {
		return source, err
	}
	layers := source.Chain.Layers()
	if r.overlay != "" {
		layers = layers[:len(layers)-1] // the overlay itself
	}
	return source, v.Opened(layers)
}

// opened begins to watch the images, and has the file system tell what it sees.
func (w *witness) opened(o *fs.Options) (err error) {
	for i := range o.Disks {
		d := &o.Disks[i]
		if d.Watch, err = evidence.NewWatch(w.changed, d.Chains()...); err != nil {
			return err
		}
		w.watches = append(w.watches, d.Watch)
	}
	o.Audit, o.Ending, o.EndsLong = w.audit, w.finish, w.manifest != nil
	return w.noteImages(o.Disks)
}

// noteImages has the audit file, if there is one, tell what the mount consists of.
func (w *witness) noteImages(disks []fs.Source) error {
	if w.audit == nil {
		return nil
	}
	var images []evidence.Image
	for _, d := range disks {
		for _, c := range d.Chains() {
			if err := w.refuseAudit(c); err != nil {
				return err
			}
		}
		image, err := evidence.Describe(d.Chain)
		if err != nil {
			return err
		}
		images = append(images, image)
	}
	return w.audit.Images(images)
}

// refuseAudit fails if the audit file is part of an image.
func (w *witness) refuseAudit(c *vdcore.Chain) error {
	for _, l := range c.Layers() {
		for _, f := range l.Image.Files() {
			st, err := storage.Whole(f).Stat()
			if err != nil {
				return err
			}
			if w.audit.Is(st.ID) {
				return usageError{fmt.Sprintf("--audit: %s is a file of the image", f.Path())}
			}
		}
	}
	return nil
}

func (w *witness) changed(c evidence.Change) {
	log.Error().Msgf("%s changed while mounted (%s): what is read may be neither the old content nor the new", clean(c.File), strings.Join(c.What, ", "))
	w.audit.Changed(c)
}

func (w *witness) start() {
	for _, watch := range w.watches {
		watch.Start()
	}
}

// finish looks at the images a last time, when the mount is gone and they are locked
// still.
func (w *witness) finish() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.mu.Lock()
	w.ending = cancel
	w.mu.Unlock()
	var errs []error
	for _, path := range w.verified {
		err := w.verifyAgain(ctx, path)
		w.audit.Verified("end", err)
		errs = append(errs, err)
	}
	for _, watch := range w.watches {
		watch.Stop()
		errs = append(errs, watch.Finish())
	}
	return errors.Join(errs...)
}

func (w *witness) verifyAgain(ctx context.Context, path string) error {
	v, err := imgops.Verify(ctx, w.manifest, path, w.open, nil)
	switch {
	case errors.Is(err, context.Canceled):
		return codedError{fmt.Errorf("%s: stopped before it was compared with the manifest again", path), exitIO}
	case err != nil:
		return err
	}
	if err := v.Err(); err != nil {
		return fmt.Errorf("%w: %w", evidence.ErrChanged, err)
	}
	return nil
}

// stop ends what still takes time after the mount has gone, and reports whether it has.
func (w *witness) stop() (gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending == nil {
		return false
	}
	w.ending()
	return true
}

// end writes the last line of the audit file. server is nil if nothing was mounted.
func (w *witness) end(err error, server *fs.Server) error {
	e := evidence.Ending{How: cmp.Or(w.how, "unmounted"), ExitCode: exitCode(err), Err: err}
	if server == nil {
		e.How = "not mounted"
	} else {
		e.Written = server.Written()
	}
	for _, watch := range w.watches {
		e.Changes = append(e.Changes, watch.Changes()...)
	}
	if err := w.audit.End(e); err != nil {
		log.Error().Msg(clean(err.Error()))
		return err
	}
	return nil
}

// untilOneOf returns a context that ends when a signal comes, which stays for whoever
// waits for it next.
func untilOneOf(signals chan os.Signal) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case sig := <-signals:
			cancel()
			select {
			case signals <- sig:
			default: // as many as can wait do
			}
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
