package vmdk

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// maxName is the longest path Linux takes.
const maxName = 4096

// Expressions are compiled when they are needed: few runs do, and all would start later.
var (
	scheme       = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([a-z][a-z0-9+.-]+):`) })
	windowsDrive = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z]:[\\/]`) })
)

// protocols are prefixes QEMU would take for something other than a file. Other names
// with a colon are names.
var protocols = []string{
	"json", "file", "fat", "host_device", "host_cdrom", "nbd", "nbd+tcp", "nbd+unix", "nbd+vsock", "rbd",
	"http", "https", "ftp", "ftps", "tftp", "ssh", "sftp", "iscsi", "iser", "nfs", "gluster", "sheepdog",
	"nvme", "vxhs", "blkdebug", "blkverify", "blkreplay", "quorum", "null-co", "null-aio", "data",
}

// checkName refuses what is no plain file name. Where a plain one leads is the
// FS's business.
func checkName(name string) error {
	lower := strings.ToLower(name)
	m := scheme().FindStringSubmatch(lower)
	why := ""
	switch {
	case m != nil && (slices.Contains(protocols, m[1]) || strings.HasPrefix(lower[len(m[0]):], "//")):
		why = "an address"
	case windowsDrive().MatchString(name):
		why = "a Windows path"
	case strings.HasPrefix(name, `\\`):
		why = "a network path or device"
	case len(name) > maxName:
		why = "too long"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7F }):
		why = "with control characters"
	case strings.HasSuffix(name, "/"):
		why = "a folder"
	default:
		return nil
	}
	return fmt.Errorf("extent name %.200q is not a plain file name (%s): %w", name, why, vdcore.ErrUnsupported)
}

// resolver opens the files extent lines name.
type resolver struct {
	fs       storage.FS
	dir      string // of the descriptor
	encoding string
	mode     storage.Mode
}

// open opens an extent file: in the descriptor's folder, else in the search
// folders, else under the name in the descriptor's encoding.
func (r resolver) open(name string) (storage.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var tried []string
	for _, path := range r.paths(name) {
		f, err := r.fs.Open(path, r.mode)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, refused(name, err)
		}
		tried = append(tried, filepath.Dir(path))
	}
	return nil, vdcore.Flaw("extent-missing", fmt.Errorf("extent file %w (%s); looked in %s", vdcore.ErrMissing, name, strings.Join(slices.Compact(tried), ", ")))
}

// refused says what the FS has against a name. A device outside the allowed
// folders is called one, since that is what matters of it.
func refused(name string, err error) error {
	if strings.HasPrefix(filepath.Clean(name), "/dev/") && errors.Is(err, storage.ErrOutside) {
		return fmt.Errorf("extent %q is a device: %w: %w", name, storage.ErrNotRegular, err)
	}
	return fmt.Errorf("extent %q: %w", name, err)
}

// paths lists where a name may be found, in order.
func (r resolver) paths(name string) []string {
	names := []string{name}
	if u := r.decode(name); u != name {
		names = append(names, u)
	}
	var paths []string
	for _, n := range names {
		if filepath.IsAbs(n) {
			paths = append(paths, filepath.Clean(n))
			continue
		}
		for _, dir := range append([]string{r.dir}, r.fs.Search()...) {
			paths = append(paths, filepath.Join(dir, n))
		}
	}
	return paths
}

// cp1252 is what the bytes 0x80 to 0x9F mean in windows-1252; 0xA0 and up are as
// in Unicode.
var cp1252 = []rune("€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ")

// decode turns a name of a Western descriptor into UTF-8. Names in other
// encodings are only looked for byte for byte.
func (r resolver) decode(name string) string {
	switch strings.ToLower(r.encoding) {
	case "windows-1252", "iso-8859-1", "latin1":
	default:
		if utf8.ValidString(name) || r.encoding != "" {
			return name
		}
	}
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 0x80 && c < 0xA0:
			b.WriteRune(cp1252[c-0x80])
		default:
			b.WriteRune(rune(c))
		}
	}
	return b.String()
}

type pieceName struct {
	name *regexp.Regexp
	says string // $1 is the image's name, $2 the number of the piece
}

// pieces are names of files that are part of an image, and what to say of them.
var pieces = sync.OnceValue(func() []pieceName {
	return []pieceName{
		{regexp.MustCompile(`(?i)^(.+)-s0*(\d+)\.vmdk$`), "this is extent $2 of a split set; open $1.vmdk instead"},
		{regexp.MustCompile(`(?i)^(.+)-f0*(\d+)\.vmdk$`), "this is flat extent $2 of a split set; open $1.vmdk instead, or this file with --format raw"},
		{regexp.MustCompile(`(?i)^(.+)-flat\.vmdk$`), "this is the content of a disk without its descriptor; open $1.vmdk instead, or this file with --format raw"},
		{regexp.MustCompile(`(?i)^(.+)-delta\.vmdk$`), "this is the data file of a snapshot; open its descriptor $1.vmdk instead"},
		{regexp.MustCompile(`(?i)^(.+)-sesparse\.vmdk$`), "this is the data file of a snapshot; open its descriptor $1.vmdk instead"},
		{regexp.MustCompile(`(?i)^(.+)-ctk\.vmdk$`), "this is the list of changed blocks of $1.vmdk, not a disk"},
		{regexp.MustCompile(`(?i)^(.+)-rdmp?\.vmdk$`), "this stands for a raw LUN mapped by $1.vmdk, which is not read"},
	}
})

// pieceOf says which image a file of this name is part of, "" for none.
func pieceOf(name string) string {
	for _, p := range pieces() {
		if m := p.name.FindStringSubmatchIndex(name); m != nil {
			return string(p.name.ExpandString(nil, p.says, name, m))
		}
	}
	return ""
}

// isPiece reports whether a file is named as a piece of an image that lies beside it.
func isPiece(image, path string) bool {
	stem := strings.TrimSuffix(image, filepath.Ext(image))
	return slices.ContainsFunc(pieces(), func(p pieceName) bool {
		m := p.name.FindStringSubmatch(path)
		return m != nil && m[1] == stem
	})
}

// bare is the error for an extent file opened without its descriptor.
func bare(name, kind string) error {
	says := pieceOf(name)
	if says == "" {
		says = "open the descriptor that names it, a small text file ending in .vmdk, instead"
	}
	return fmt.Errorf("%s without a descriptor: %s: %w", kind, says, vdcore.ErrUnsupported)
}
