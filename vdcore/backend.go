package vdcore

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"vdfs/vdcore/storage"
)

// Backend is one image format. Its optional abilities are interfaces its Image
// implements (Decoder, HeaderDumper, …).
type Backend struct {
	Name       string   // "vdi", unique
	Title      string   // "VirtualBox disk image"
	Extensions []string // ".vdi": names that promise this format, lower case
	Variants   []string // what Info.Variant can be
	// Probe scores how well the sample fits. It is pure: content decides, and
	// the name at most explains.
	Probe func(Sample) Score
	// Explain says what a file of a promised name that does not probe could be,
	// in one sentence; may be nil or return "".
	Explain func(Sample) string
	// Open parses the image. On success the image owns args.File.
	Open func(args OpenArgs) (Image, error)
	// Create makes a new image; nil where the format cannot. After an error, or when
	// ctx ends, nothing of it is left.
	Create func(ctx context.Context, args CreateArgs) error
	// Stream begins a new image of the variant "stream", which is written front to
	// back; nil where the format has none. Of args.Path only the name counts.
	Stream func(w io.Writer, args CreateArgs) (Streamer, error)
	// Makes are the variants Create can make, the usual one first.
	Makes []Making
	// Kind is a nil image of the type that Open returns for writing: what it
	// implements is what the format can.
	Kind Image
	// Repair plans how to mend an image, which may be too damaged to open; nil where
	// the format cannot. The plan's files are the caller's; after an error it has
	// closed those it opened. Planning may mean reading all of the image; ctx ends it.
	Repair func(ctx context.Context, args OpenArgs) (*RepairPlan, error)
}

// Score is a probe's answer.
type Score int

const (
	No       Score = 0   // not this format
	Fallback Score = 1   // readable so, if nothing claims the content
	Magic    Score = 100 // the content carries the format's signature
)

// SampleSize is how much of a file's head and tail a probe sees, in bytes.
const SampleSize = 4096

// Sample is what a probe looks at.
type Sample struct {
	Head []byte // the first SampleSize bytes, or the whole file
	Tail []byte // the last SampleSize bytes, or the whole file
	Size int64  // of the file
	Name string // base name of the file
}

// OpenArgs is what a backend opens an image from.
type OpenArgs struct {
	File storage.File // the file the user or a child named
	Path string       // its absolute path
	// FS opens the image's other files: its own folder and the search folders,
	// nothing else. A backend never opens files any other way.
	FS storage.FS
	// Tables caches table pages for all the images of a chain.
	Tables *Tables
	// Shallow asks for Info only: no tables are read or checked, no extent files
	// opened, and Map is not called. Used to find parents among many files.
	Shallow bool
	// Write asks for an image that is a Writer. File is open for writing then, and
	// the image opens its other files so. An image that cannot be written, or must
	// not because it is damaged, fails with ErrReadOnly and says why.
	Write bool
}

// Image is one open image. All methods may be called from many goroutines.
type Image interface {
	// Info never changes for an image opened read-only; callers do not write it.
	Info() *Info
	// Files are the files Extent.File counts.
	Files() []storage.File
	// Map appends extents that cover exactly [off, off+n), which lies within the
	// capacity, to dst: in order, without gaps, joined where one continues the
	// other. It moves no data. Table entries that lead nowhere are Lost.
	Map(dst []Extent, off, n int64) ([]Extent, error)
	Close() error
}

// Decoder unpacks Packed extents.
type Decoder interface {
	// Decode returns the whole unpacked unit e is part of (Skip bytes before
	// e.Off). What the disk needs of it must be in the record; behind the end of
	// the disk it is filled up with zeros. Errors wrap ErrCorrupt.
	//
	// The unit may be put into the memory given, of any size or nil, which was another
	// unit's.
	Decode(e Extent, memory []byte) ([]byte, error)
}

// Plain is an image that can be one file whose bytes are the disk's, all of them and
// no others.
type Plain interface {
	// Plain returns that file, nil if the image is not so.
	Plain() storage.File
}

// Counted is an image that may know how much of the disk it holds without its map being
// walked, which takes seconds for terabytes in small grains.
type Counted interface {
	// Stored returns how many bytes of what Map tells of an image opened read-only are
	// neither Free nor Zero; ok is false where only Map can tell.
	Stored() (n int64, ok bool)
}

// HeaderDumper shows the parsed header as is, for `info --header`. The value
// must marshal to JSON.
type HeaderDumper interface{ Header() any }

var registry struct {
	sync.RWMutex
	list []Backend // replaced, never changed
}

// Register makes a format known; called from init. A duplicate name panics.
func Register(b Backend) {
	registry.Lock()
	defer registry.Unlock()
	for _, r := range registry.list {
		if r.Name == b.Name {
			panic("vdcore: backend " + b.Name + " registered twice")
		}
	}
	list := append(slices.Clone(registry.list), b)
	slices.SortFunc(list, func(a, b Backend) int { return cmp.Compare(a.Name, b.Name) })
	registry.list = list
}

// Backends lists the registered formats by name.
func Backends() []Backend { return slices.Clone(backends()) }

// backends is Backends for who changes nothing of it.
func backends() []Backend {
	registry.RLock()
	defer registry.RUnlock()
	return registry.list
}

// Lookup finds a backend by name.
func Lookup(name string) (Backend, error) {
	var names []string
	for _, b := range backends() {
		if b.Name == name {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return Backend{}, fmt.Errorf("format %q: %w; known: %s", name, ErrUnsupported, strings.Join(names, ", "))
}

// TakeSample reads what probes look at.
func TakeSample(f storage.File) (Sample, error) { return takeSample(f, new(sampleMemory)) }

// sampleMemory is room for the head and the tail of a file.
type sampleMemory [2 * SampleSize]byte

// takeSample is TakeSample into memory that is there.
func takeSample(f storage.File, memory *sampleMemory) (Sample, error) {
	st, err := f.Stat()
	if err != nil {
		return Sample{}, err
	}
	s := Sample{Size: st.Size, Name: filepath.Base(f.Path())}
	n := min(st.Size, SampleSize)
	s.Head, s.Tail = memory[:n:n], memory[SampleSize:][:n:n]
	if err := storage.ReadFull(f, s.Head, 0); err != nil {
		return s, fmt.Errorf("read %s: %w", f.Path(), err)
	}
	if err := storage.ReadFull(f, s.Tail, st.Size-n); err != nil {
		return s, fmt.Errorf("read %s: %w", f.Path(), err)
	}
	return s, nil
}

// Probe decides which backend reads a sample. Content that carries a signature
// wins, two signatures are refused, then known foreign formats are named, then a
// fallback (raw) may take it unless the name promises a format.
func Probe(s Sample) (Backend, error) {
	var best []Backend
	var fallback *Backend
	for _, b := range backends() {
		switch score := b.Probe(s); {
		case score >= Magic:
			best = append(best, b)
		case score > No:
			fallback = &b
		}
	}
	switch {
	case len(best) == 1:
		return best[0], nil
	case len(best) > 1:
		return Backend{}, fmt.Errorf("%w: the content fits %s and %s at once; choose with --format", ErrFormat, best[0].Name, best[1].Name)
	}
	if name := foreign(s); name != "" {
		return Backend{}, fmt.Errorf("%w: this is a %s, which vdfs does not read yet; --format raw shows the file as it is", ErrUnsupported, name)
	}
	if err := broken(s); err != nil {
		return Backend{}, err
	}
	if fallback == nil {
		return Backend{}, ErrFormat
	}
	return *fallback, nil
}

// broken explains a file whose name promises a format its content is not.
func broken(s Sample) error {
	ext := strings.ToLower(filepath.Ext(s.Name))
	for _, b := range backends() {
		if !slices.Contains(b.Extensions, ext) || b.Probe(s) > No {
			continue
		}
		if b.Explain != nil {
			if why := b.Explain(s); why != "" {
				return fmt.Errorf("%w: %s", ErrFormat, why)
			}
		}
		return fmt.Errorf("%w: not a %s image, although it is called %s: its signature is missing; --format raw shows the file as it is", ErrFormat, strings.ToUpper(b.Name), ext)
	}
	if promise := foreignExtension(ext); promise != "" {
		return fmt.Errorf("%w: called %s, but without the signature of a %s; --format raw shows the file as it is", ErrFormat, ext, promise)
	}
	return nil
}

// readAtMost fills p from off as far as the file goes.
func readAtMost(f io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := f.ReadAt(p, off)
	if err == io.EOF {
		err = nil
	}
	return n, err
}
