package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"vdfs/fs"
)

// mountOptions are the words of -o that are not flags of `mount` as well.
type mountOptions struct {
	allowOther, allowRoot bool
	uid, gid              *uint32
	umask                 uint32
	nonempty              bool
	ro, rw                bool // as they were said
	sync                  bool
	debug                 bool
	unknown               []string // words that --sloppy passed over
}

// mountWord is a word of -o. The table is the one place for them: parsing, help, the
// manual and completion go by it. The long flags of `mount` are words too, see
// flagWord, and need no entry.
type mountWord struct {
	name  string
	value string // what is to follow "=", for people; "" is nothing
	usage string
	set   func(o *mountOptions, value string) error
}

var mountWords = []mountWord{
	{"ro", "", "nothing is written: the default", on(func(o *mountOptions) *bool { return &o.ro })},
	{"rw", "", "the same as --rw; not in fstab and mount(8), which say it of every mount", on(func(o *mountOptions) *bool { return &o.rw })},
	{"write", "", "the same as --rw, in fstab too", on(func(o *mountOptions) *bool { return &o.rw })},
	{"allow_other", "", "other users may look in, too, as far as uid, gid and umask let them", on(func(o *mountOptions) *bool { return &o.allowOther })},
	{"allow_root", "", "root may look in, too", on(func(o *mountOptions) *bool { return &o.allowRoot })},
	{"uid", "N", "owner of all files", func(o *mountOptions, v string) (err error) { o.uid, err = parseID(v); return err }},
	{"gid", "N", "group of all files", func(o *mountOptions, v string) (err error) { o.gid, err = parseID(v); return err }},
	{"umask", "OCTAL", "permissions to take away", func(o *mountOptions, v string) (err error) { o.umask, err = parseUmask(v); return err }},
	{"nonempty", "", "mount over a folder or file that is not empty", on(func(o *mountOptions) *bool { return &o.nonempty })},
	{"sync", "", "every write is on disk when it returns", on(func(o *mountOptions) *bool { return &o.sync })},
	{"debug", "", "log every request", on(func(o *mountOptions) *bool { return &o.debug })},
}

// on sets a switch.
func on(of func(*mountOptions) *bool) func(*mountOptions, string) error {
	return func(o *mountOptions, _ string) error { *of(o) = true; return nil }
}

// otherWords mean something to mount(8) and systemd, or hold anyway, or have no
// meaning for a mount without devices, programs and access times. With "=", a value
// follows.
var otherWords = []string{
	"defaults", "auto", "noauto", "user", "user=", "nouser", "users", "owner", "group",
	"nofail", "_netdev", "comment=", "helper=", "uhelper=", "silent", "loud",
	"suid", "nosuid", "dev", "nodev", "exec", "noexec", "nosymfollow",
	"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
	"strictatime", "nostrictatime", "lazytime", "nolazytime",
	"async", "dirsync", "mand", "nomand", "iversion", "noiversion", "default_permissions",
}

// parseMountOptions takes lists of words. Those that are flags it sets in c; with
// --sloppy it passes over those it does not know.
func parseMountOptions(c *cli.Context, lists []string) (mountOptions, error) {
	var o mountOptions
	for _, list := range lists {
		words, err := splitWords(list)
		if err != nil {
			return o, err
		}
		for _, word := range words {
			err := o.take(c, word)
			if err == errNoWord && c.Bool("sloppy") {
				o.unknown = append(o.unknown, word)
				continue
			}
			if err != nil {
				return o, usageError{fmt.Sprintf("-o %s: %v", word, err)}
			}
		}
	}
	if c.Bool("by-mount") { // it says rw of whatever is not ro
		o.rw = slices.ContainsFunc(lists, saysWrite)
	}
	return o, nil
}

func saysWrite(list string) bool {
	words, _ := splitWords(list)
	return slices.Contains(words, "write")
}

var errNoWord = fmt.Errorf("no such option; vdfs mount --help and mount.fuse.vdfs(8) list them")

func (o *mountOptions) take(c *cli.Context, word string) error {
	key, value, hasValue := strings.Cut(word, "=")
	if word == "" || isOtherWord(key, hasValue) {
		return nil
	}
	for _, w := range mountWords {
		if w.name == key {
			if err := fits(hasValue, w.value); err != nil {
				return err
			}
			return w.set(o, value)
		}
	}
	f := flagWord(c.Command, key)
	if f == nil {
		return errNoWord
	}
	if err := fits(hasValue, placeholder(f)); err != nil {
		return err
	}
	if !hasValue {
		value = "true"
	}
	return c.Set(key, value)
}

// fits reports whether a value is there if one is wanted.
func fits(has bool, wanted string) error {
	switch {
	case has && wanted == "":
		return fmt.Errorf("it takes no value")
	case !has && wanted != "":
		return fmt.Errorf("it takes a value: %s", wanted)
	}
	return nil
}

func isOtherWord(key string, hasValue bool) bool {
	if hasValue {
		return slices.Contains(otherWords, key+"=") || strings.HasPrefix(key, "x-") || strings.HasPrefix(key, "X-")
	}
	return slices.Contains(otherWords, key) || strings.HasPrefix(key, "x-") || strings.HasPrefix(key, "X-")
}

// flagWord is the flag of a command that may be said as a word of -o: one with a long
// name that is about what is mounted and how; nil if there is none of that name.
func flagWord(command *cli.Command, name string) cli.Flag {
	for _, f := range command.Flags {
		if f.Names()[0] == name && isVisible(f) && !slices.Contains([]string{"o", "foreground", "help"}, name) {
			return f
		}
	}
	return nil
}

func isVisible(f cli.Flag) bool {
	v, ok := f.(cli.VisibleFlag)
	return !ok || v.IsVisible()
}

// placeholder is what stands for a flag's value in its help; "" if it takes none.
func placeholder(f cli.Flag) string {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok || !d.TakesValue() {
		return ""
	}
	if parts := strings.Split(d.GetUsage(), "`"); len(parts) == 3 {
		return parts[1]
	}
	return "VALUE"
}

// splitWords splits a list at its commas as mount(8) does: those after a backslash or
// between double quotes belong to a word. A backslash also protects itself and
// quotes; three octal digits after it are a byte, as in fstab.
func splitWords(list string) ([]string, error) {
	words, word, quoted := []string{}, []byte{}, false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\':
			b, n := unescapeByte(list[i+1:])
			if n == 0 {
				return nil, usageError{fmt.Sprintf("-o %s: nothing follows the last backslash", list)}
			}
			word = append(word, b)
			i += n
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			words, word = append(words, string(word)), nil
		default:
			word = append(word, c)
		}
	}
	if quoted {
		return nil, usageError{fmt.Sprintf("-o %s: a double quote is not closed", list)}
	}
	return append(words, string(word)), nil
}

// unescapeByte reads what follows a backslash, n bytes.
func unescapeByte(s string) (b byte, n int) {
	if s == "" {
		return 0, 0
	}
	if len(s) >= 3 {
		if v, err := strconv.ParseUint(s[:3], 8, 8); err == nil {
			return byte(v), 3
		}
	}
	return s[0], 1
}

func parseID(value string) (*uint32, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n == 1<<32-1 { // the last one means "none"
		return nil, fmt.Errorf("a number is wanted")
	}
	id := uint32(n)
	return &id, nil
}

func parseUmask(value string) (uint32, error) {
	n, err := strconv.ParseUint(value, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("an octal number up to 777 is wanted")
	}
	return uint32(n), nil
}

func (o *mountOptions) fsOptions() fs.Options {
	return fs.Options{
		AllowOther: o.allowOther, AllowRoot: o.allowRoot,
		UID: o.uid, GID: o.gid, Umask: o.umask, Sync: o.sync, Debug: o.debug,
	}
}

// optionWords are all words of -o: those of the table, and a command's flags.
func optionWords(command *cli.Command) []mountWord {
	list := slices.Clone(mountWords)
	for _, f := range command.Flags {
		name := f.Names()[0]
		if flagWord(command, name) != nil && !slices.ContainsFunc(list, func(w mountWord) bool { return w.name == name }) {
			list = append(list, mountWord{name: name, value: placeholder(f), usage: usageOf(f)})
		}
	}
	return list
}

// optionsUsage is the help of -o.
func optionsUsage() string {
	var words []string
	for _, w := range mountWords {
		if w.value != "" {
			w.name += "=" + w.value
		}
		words = append(words, w.name)
	}
	return "`OPTIONS`: " + strings.Join(words, ", ") + "; and long options without their dashes, like search=DIR"
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
