package vmdk

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// maxDescriptorArea is VirtualBox's limit for an embedded descriptor, in bytes of
// room; the text in it must end within maxText.
const maxDescriptorArea = 20480 * sector

// open reads the descriptor, then every extent it names. It closes the extent
// files it opened when it fails, never args.File.
func open(args vdcore.OpenArgs) (vdcore.Image, error) {
	st, err := args.File.Stat()
	if err != nil {
		return nil, err
	}
	img := &image{files: []storage.File{args.File}}
	text, err := img.text(args, st.Size)
	if err != nil {
		return nil, err
	}
	if img.desc, err = parseDescriptor(text); err != nil {
		return nil, vdcore.Flaw("descriptor", err)
	}
	info, err := img.desc.info()
	if err != nil {
		return nil, vdcore.Flaw("descriptor", err)
	}
	img.info = &info
	img.info.FileSize = st.Size
	if img.own != nil {
		img.info.BlockSize = img.own.blockSize()
		if at := img.own.DescriptorOffset; at != newDescriptor {
			img.info.Note(fmt.Sprintf("the descriptor lies at sector %d, as an interrupted change leaves it, and not where QEMU looks for it; vdfs set brings it back", at))
		}
	}
	if args.Shallow {
		return img, nil
	}
	if args.Write {
		return openWriter(args, img, st)
	}
	if err := newAssembly(args, img, st).run(); err != nil {
		return nil, errors.Join(err, closeAll(img.files[1:]))
	}
	return img, nil
}

// text finds the descriptor: the whole file, or a part of a sparse extent.
func (i *image) text(args vdcore.OpenArgs, size int64) ([]byte, error) {
	head := make([]byte, min(size, hostedHeaderSize))
	if err := storage.ReadFull(args.File, head, 0); err != nil {
		return nil, err
	}
	name := filepath.Base(args.Path)
	switch {
	case bytes.HasPrefix(head, hostedMagic):
		return i.embedded(args.File, head, size, name)
	case bytes.HasPrefix(head, cowdMagic):
		return nil, bare(name, "a COWD extent")
	case bytes.HasPrefix(head, seSparseMagic):
		return nil, bare(name, "a seSparse extent")
	case size > maxText:
		if !isDescriptor(head) {
			return nil, fmt.Errorf("neither a descriptor nor a sparse extent: %w", vdcore.ErrFormat)
		}
		return nil, vdcore.Flaw("descriptor", fmt.Errorf("descriptor too long: %d bytes of text, %d are taken: %w", size, maxText, vdcore.ErrCorrupt))
	}
	text := make([]byte, size)
	return text, storage.ReadFull(args.File, text, 0)
}

// embedded reads the descriptor inside a hosted sparse file. The pieces of a
// split set have room for one, but none in it.
func (i *image) embedded(f storage.File, head []byte, size int64, name string) ([]byte, error) {
	h, err := parseHosted(head)
	if err != nil {
		return nil, err
	}
	pos, n, err := h.descriptorArea(size)
	if err != nil {
		return nil, err
	}
	if n > maxDescriptorArea {
		return nil, vdcore.Flaw("descriptor-outside", fmt.Errorf("descriptor size of %d sectors, %d are taken: %w", n/sector, maxDescriptorArea/sector, vdcore.ErrCorrupt))
	}
	text, err := readText(f, pos, min(n, maxText+1))
	if err != nil {
		return nil, err
	}
	if len(text) == 0 || text[0] == 0 {
		return nil, bare(name, "a sparse extent")
	}
	if !isDescriptor(text) {
		return nil, vdcore.Flaw("descriptor", fmt.Errorf("no descriptor at sector %d, where the header says it is: %w", h.DescriptorOffset, vdcore.ErrCorrupt))
	}
	i.own, i.textAt = h, pos
	return text, nil
}

// usualText is more than the text of most embedded descriptors, bytes.
const usualText = 2 << 10

// readText reads a text of up to n bytes, which a NUL ends: all of the room there is
// for it only where it is long.
func readText(f storage.File, pos, n int64) ([]byte, error) {
	text := make([]byte, min(n, usualText))
	if err := storage.ReadFull(f, text, pos); err != nil {
		return nil, err
	}
	if bytes.IndexByte(text, 0) >= 0 || n == int64(len(text)) {
		return text, nil
	}
	text = make([]byte, n)
	return text, storage.ReadFull(f, text, pos)
}

// blockSize is what the header alone says; 0 when it is not to be believed.
func (h *hostedHeader) blockSize() int64 {
	if h.checkTables() != nil {
		return 0
	}
	return int64(h.GrainSize) * sector
}

// assembly turns the extent lines of one image into pieces.
type assembly struct {
	resolver
	img    *image
	report *report
	cache  *vdcore.Tables
	base   string                 // name of the file that was opened
	self   storage.FileID         // its identity
	stats  []storage.Stat         // of img.files
	byName map[string]int         // index of a file by the name the line used
	byID   map[storage.FileID]int // and by identity
	tabled map[int]bool           // files whose tables are in use
	room   int64                  // for tables, in all extents together
	write  bool                   // the image is to be a Writer
}

func newAssembly(args vdcore.OpenArgs, img *image, st storage.Stat) *assembly {
	encoding, _ := img.desc.get("encoding")
	mode := storage.ReadOnly
	if args.Write {
		mode = storage.ReadWrite
	}
	return &assembly{
		resolver: resolver{fs: args.FS, dir: filepath.Dir(args.Path), encoding: encoding, mode: mode},
		img:      img,
		report:   &report{info: img.info},
		cache:    args.Tables,
		base:     filepath.Base(args.Path),
		self:     st.ID,
		stats:    []storage.Stat{st},
		byName:   map[string]int{},
		byID:     map[storage.FileID]int{st.ID: 0},
		tabled:   map[int]bool{},
		room:     maxTables,
		write:    args.Write,
	}
}

func (a *assembly) run() error {
	at := int64(0)
	for n, line := range a.img.desc.Extents {
		p, err := a.piece(guest{at, line.bytes()}, line)
		if err == nil {
			err = p.verify(a.report)
		}
		if err != nil {
			return fmt.Errorf("extent %d: %w", n+1, err)
		}
		a.img.pieces = append(a.img.pieces, p)
		at = p.end()
	}
	a.img.info.FileSize = 0
	for _, st := range a.stats {
		a.img.info.FileSize += st.Size
	}
	return nil
}

// piece makes one line readable. A file that is not there is no reason to fail:
// its range is lost, and whoever opened the image decides.
func (a *assembly) piece(g guest, line extentLine) (piece, error) {
	switch {
	case line.Access == accessNone:
		why := vdcore.Flaw("extent-barred", fmt.Errorf("extent %q may not be read (%s): %w", line.Name, accessNone, vdcore.ErrUnsupported))
		return &uniform{g, vdcore.Lost, why}, nil
	case line.Type == typeZero:
		return &uniform{g, vdcore.Zero, nil}, nil
	}
	file, err := a.file(line)
	if errors.Is(err, vdcore.ErrMissing) {
		return &uniform{g, vdcore.Lost, err}, nil
	}
	if err != nil {
		return nil, err
	}
	if file == 0 && (a.img.own == nil || line.flat()) {
		return nil, vdcore.Flaw("extent-line", fmt.Errorf("%q: the extent is the descriptor itself: %w", line.Name, vdcore.ErrCorrupt))
	}
	if line.flat() {
		f := flat{guest: g, file: a.img.files[file], index: file, pos: line.Offset * sector}
		return f.bound(line.Name, a.stats[file]), nil
	}
	return a.sparse(g, line, file)
}

// file returns the index of the file a line names, opening it at first use.
func (a *assembly) file(line extentLine) (int, error) {
	if a.isSelf(line) {
		return 0, nil
	}
	if n, ok := a.byName[line.Name]; ok {
		return n, nil
	}
	f, err := a.open(line.Name)
	if err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	n, ok := a.byID[st.ID]
	if ok {
		err = f.Close()
	} else {
		n = len(a.img.files)
		a.img.files = append(a.img.files, f)
		a.stats = append(a.stats, st)
		a.byID[st.ID] = n
	}
	a.byName[line.Name] = n
	return n, err
}

// isSelf reports whether a line of an embedded descriptor means the file it is
// embedded in: by name, or as the only sparse extent, since a file does not learn
// when it is renamed. A header without capacity holds a descriptor and no disk.
func (a *assembly) isSelf(line extentLine) bool {
	if a.img.own == nil || line.Type != typeSparse {
		return false
	}
	return line.Name == a.base || len(a.img.desc.Extents) == 1 && a.img.own.Capacity != 0
}

// sparse opens an extent with tables. The signature decides which kind it is.
func (a *assembly) sparse(g guest, line extentLine, file int) (piece, error) {
	if a.tabled[file] {
		return nil, vdcore.Flaw("extent-line", fmt.Errorf("%q: two extents use the tables of one file: %w", line.Name, vdcore.ErrCorrupt))
	}
	a.tabled[file] = true
	e := grains{
		guest: g, name: filepath.Base(a.img.files[file].Path()), // not the line's: the file may be renamed
		file: a.img.files[file], index: file, length: a.stats[file].Size, tables: a.cache,
	}
	head := make([]byte, min(e.length, hostedHeaderSize))
	if err := storage.ReadFull(e.file, head, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", e.name, err)
	}
	p, err := a.byMagic(e, head, line.Type)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.name, err)
	}
	if a.write {
		if err := p.allowWriting(); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if a.room -= p.tableCount(); a.room < 0 {
		return nil, fmt.Errorf("%s: more than %d grain tables: %w", e.name, maxTables, vdcore.ErrUnsupported)
	}
	if a.img.info.BlockSize == 0 || p.grain < a.img.info.BlockSize {
		a.img.info.BlockSize = p.grain
	}
	return p, nil
}

func (a *assembly) byMagic(e grains, head []byte, kind string) (*grains, error) {
	switch {
	case kind == typeSESparse && bytes.HasPrefix(head, seSparseMagic):
		return newSE(e, a.report)
	case kind == typeSESparse:
		return nil, a.noSignature(e, "seSparse")
	case bytes.HasPrefix(head, cowdMagic):
		return newCOWD(e, a.report)
	case bytes.HasPrefix(head, hostedMagic):
		h, err := parseHosted(head)
		if err != nil {
			return nil, err
		}
		return newHosted(e, h, a.report)
	}
	return nil, a.noSignature(e, strings.Join([]string{string(hostedMagic), string(cowdMagic)}, " or "))
}

func (a *assembly) noSignature(e grains, want string) error {
	if e.length < hostedHeaderSize {
		return vdcore.Flaw("header-cut", fmt.Errorf("truncated header: the file has %d bytes: %w", e.length, vdcore.ErrCorrupt))
	}
	return vdcore.Flaw("signature", fmt.Errorf("no signature %s at the start of the extent: %w", want, vdcore.ErrCorrupt))
}
