package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vdfs/fs"
)

// mountOptions are the words of -o.
type mountOptions struct {
	allowOther, allowRoot bool
	uid, gid              *uint32
	umask                 uint32
	nonempty              bool
	ro, rw                bool // as they were said
	debug                 bool
}

// The words of --kernel-reads.
const (
	kernelAuto    = "auto"
	kernelOff     = "off"
	kernelRequire = "require"
)

func (r *mountRequest) parseKernelReads(word string) error {
	switch word {
	case kernelAuto:
		r.kernelReads = fs.KernelAuto
	case kernelOff:
		r.kernelReads = fs.KernelOff
	case kernelRequire:
		r.kernelReads = fs.KernelRequire
		if r.open.Write || r.overlay != "" {
			return usageError{"--kernel-reads=require goes with read-only mounts: what is written goes through vdfs"}
		}
	default:
		return usageError{fmt.Sprintf("--kernel-reads=%s: %s, %s or %s", word, kernelAuto, kernelOff, kernelRequire)}
	}
	return nil
}

// ignoredOptions mean something to mount(8) or hold anyway for a mount without
// devices or set-user-ID files.
var ignoredOptions = []string{
	"defaults", "auto", "noauto", "user", "users", "nouser", "owner", "group", "nofail", "_netdev",
	"nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "async", "default_permissions",
}

func parseMountOptions(lists []string) (mountOptions, error) {
	var o mountOptions
	for _, list := range lists {
		for word := range strings.SplitSeq(list, ",") {
			if err := o.set(strings.TrimSpace(word)); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

func (o *mountOptions) set(word string) error {
	key, value, _ := strings.Cut(word, "=")
	var err error
	switch {
	case key == "allow_other":
		o.allowOther = true
	case key == "allow_root":
		o.allowRoot = true
	case key == "nonempty":
		o.nonempty = true
	case key == "debug":
		o.debug = true
	case key == "uid":
		o.uid, err = parseID(word, value)
	case key == "gid":
		o.gid, err = parseID(word, value)
	case key == "umask":
		o.umask, err = parseUmask(word, value)
	case word == "ro":
		o.ro = true
	case word == "rw":
		o.rw = true
	case word == "", slices.Contains(ignoredOptions, word), strings.HasPrefix(word, "x-"):
	default:
		err = usageError{fmt.Sprintf("-o %s: no such option; see vdfs mount --help", word)}
	}
	return err
}

func parseID(word, value string) (*uint32, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n == 1<<32-1 { // the last one means "none"
		return nil, usageError{fmt.Sprintf("-o %s: a number is wanted", word)}
	}
	id := uint32(n)
	return &id, nil
}

func parseUmask(word, value string) (uint32, error) {
	n, err := strconv.ParseUint(value, 8, 32)
	if err != nil || n > 0o777 {
		return 0, usageError{fmt.Sprintf("-o %s: an octal number up to 777 is wanted", word)}
	}
	return uint32(n), nil
}

func (o *mountOptions) fsOptions() fs.Options {
	return fs.Options{
		AllowOther: o.allowOther, AllowRoot: o.allowRoot,
		UID: o.uid, GID: o.gid, Umask: o.umask, Debug: o.debug,
	}
}
