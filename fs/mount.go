package fs

import (
	"errors"
	"fmt"
	stdlog "log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Mount shows o.Disks at o.Mountpoint and serves them until the mount ends. When
// it returns, the mount answers.
func Mount(o Options) (*Server, error) {
	s, err := mount(&o)
	if err != nil {
		return nil, errors.Join(err, o.closeChains())
	}
	return s, nil
}

func mount(o *Options) (*Server, error) {
	asFile, err := o.resolve()
	if err != nil {
		return nil, err
	}
	t := newTree(o, asFile)
	s, err := serve(o, t)
	if err != nil {
		return nil, errors.Join(err, t.closeRoutes())
	}
	return s, nil
}

// serve mounts a tree.
func serve(o *Options, t *tree) (*Server, error) {
	maySplice()
	if err := t.checkRoutes(); err != nil {
		return nil, err
	}
	conn, err := connect(o)
	if err != nil {
		return nil, err
	}
	raw := &rawFS{readOnly: newReadOnly(), tree: t}
	// go-fuse takes a connection that is mounted already by this name.
	fuseServer, err := fuse.NewServer(raw, "/dev/fd/"+strconv.Itoa(conn), o.serverOptions())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("FUSE: %w", err), Detach(o.Mountpoint))
	}
	leaveProcs()
	s := &Server{fuse: fuseServer, options: o, tree: t, done: make(chan struct{})}
	go s.serve()
	if err := widenReadAhead(o.Mountpoint); err != nil {
		o.Log.Debug().Err(err).Msg("read-ahead stays at the kernel's 128 KiB")
	}
	return s, nil
}

// resolve makes the mountpoint absolute and free of links, as the mount table
// will show it, and says whether it is a file.
func (o *Options) resolve() (asFile bool, err error) {
	abs, err := filepath.Abs(o.Mountpoint)
	if err != nil {
		return false, err
	}
	if o.Mountpoint, err = filepath.EvalSymlinks(abs); err != nil {
		return false, err
	}
	st, err := os.Stat(o.Mountpoint)
	switch {
	case err != nil:
		return false, err
	case st.IsDir():
		return false, nil
	case !st.Mode().IsRegular():
		return false, fmt.Errorf("%s: neither a folder nor a regular file", o.Mountpoint)
	case len(o.Disks) != 1:
		return false, fmt.Errorf("%s is a file: it can show one image, not %d", o.Mountpoint, len(o.Disks))
	}
	return true, nil
}

func (o *Options) closeChains() error {
	var errs []error
	for _, d := range o.Disks {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// writable reports whether one of the disks is.
func (o *Options) writable() bool {
	return slices.ContainsFunc(o.Disks, func(s Source) bool { return s.Chain.Top().Writable() })
}

// transfer is the most one request moves, bytes.
func (o *Options) transfer() int {
	if o.writable() {
		return maxWriteTransfer
	}
	return maxTransfer
}

func (o *Options) serverOptions() *fuse.MountOptions {
	caps := uint64(extraCaps)
	if o.writable() {
		caps |= writableCaps
	}
	return &fuse.MountOptions{
		Name:                     Subtype,
		FsName:                   o.fsName(),
		MaxWrite:                 o.transfer(),
		MaxBackground:            maxBackground,
		ExplicitDataCacheControl: true, // nothing changes behind the kernel's back
		ExtraCapabilities:        caps,
		DisableReadDirPlus:       true, // see ReadDirPlus
		MaxStackDepth:            o.stackDepth(),
		Debug:                    o.Debug,
		Logger:                   stdlog.New(logWriter{o}, "", 0),
	}
}

// stackDepth is 0, for the least, where nothing will be passed through: the deeper this
// mount counts as, the less may be put on top of it.
func (o *Options) stackDepth() int {
	if o.KernelReads == KernelOff || os.Geteuid() != 0 {
		return 0
	}
	return stackDepth
}

// logWriter takes go-fuse's own messages. Without Debug they are few, and about
// splices that had to be repeated through memory or requests cut off by an
// unmount: nothing a user can act on.
type logWriter struct{ o *Options }

func (w logWriter) Write(p []byte) (int, error) {
	w.o.Log.Debug().Msg("go-fuse: " + strings.TrimSpace(string(p)))
	return len(p), nil
}

// maxSource bounds the fsname: the kernel takes one page of it, fusermount3 one
// for all options.
const maxSource = 2048

// fsName is the image, and how many more there are.
func (o *Options) fsName() string {
	name := o.FsName
	if name == "" {
		name = topLayer(o.Disks[0].Chain).Path
		if more := len(o.Disks) - 1; more > 0 {
			name = fmt.Sprintf("%s (and %d more)", name, more)
		}
	}
	return name[:min(len(name), maxSource)]
}

// Detach takes a mount away at once, for when nothing serves it.
func Detach(mountpoint string) error {
	if os.Geteuid() != 0 {
		return helperUnmount(mountpoint, "-z")
	}
	return unix.Unmount(mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
}
