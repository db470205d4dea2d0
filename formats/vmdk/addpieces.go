package vmdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// numberedPiece is what the pieces of a split sparse image are called by all programs.
var numberedPiece = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(.+-s)(\d{3,9})(\.vmdk)$`)
})

// addsPieces reports whether a disk of a capacity has pieces the image does not have:
// those there are have a header each, which cannot change in one step with the
// descriptor.
func (w *writer) addsPieces(capacity int64) bool {
	_, sparse := w.pieces[len(w.pieces)-1].(*grains)
	return w.own == nil && sparse && capacity > w.info.Capacity
}

// newPieces are the lines of the pieces a larger disk has behind those there are,
// which keep their sizes.
func (w *writer) newPieces(capacity int64) (lines []extentLine, err error) {
	no := func(format string, args ...any) error {
		return fmt.Errorf(format+"; copy it to a new image: %w", append(args, vdcore.ErrUnsupported)...)
	}
	last := w.desc.Extents[len(w.desc.Extents)-1]
	g := w.pieces[len(w.pieces)-1].(*grains)
	h, hosted := g.head.(*hostedHeader)
	name := numberedPiece().FindStringSubmatch(last.Name)
	switch {
	case !hosted || w.pieceLimit() != 2<<30:
		return nil, no("a VMDK of the kind %s gets no further pieces", w.info.Variant)
	case name == nil:
		return nil, no("the last piece is called %q, and so the next one has no name", last.Name)
	case int64(h.Capacity)*sector != g.size: // QEMU has the next piece begin where this one's header says
		return nil, no("the last piece ends inside a grain, and nothing can come behind it")
	}
	n, err := strconv.Atoi(name[2])
	if err != nil {
		return nil, err
	}
	for left := capacity - w.info.Capacity; left > 0; left -= newPiece {
		n++
		line := extentLine{Access: accessWrite, Sectors: min(left, newPiece) / sector, Type: typeSparse}
		line.Name = fmt.Sprintf("%s%03d%s", name[1], n, name[3])
		if slices.ContainsFunc(w.desc.Extents, func(e extentLine) bool { return strings.EqualFold(e.Name, line.Name) }) {
			return nil, no("another piece is called %s already", line.Name)
		}
		if lines = append(lines, line); len(lines)+len(w.desc.Extents) > maxPieces {
			return nil, no("a disk of %d bytes would have more than %d pieces", capacity, maxPieces)
		}
	}
	return lines, nil
}

// addPieces makes the files of new pieces, durably. Nothing names them yet, so that
// after a crash, or an error, they are only in nobody's way.
func (w *writer) addPieces(ctx context.Context, fsys storage.FS, lines []extentLine) error {
	model := w.pieces[len(w.pieces)-1].(*grains).file.Path()
	var made []string
	for _, line := range lines {
		path := filepath.Join(filepath.Dir(model), filepath.Base(line.Name))
		fresh, err := addPiece(ctx, fsys, path, model, line.bytes())
		if err != nil {
			for _, path := range made {
				err = errors.Join(err, fsys.Remove(path))
			}
			return err
		}
		if fresh {
			made = append(made, path)
		}
	}
	return nil
}

// addPiece makes an empty piece, all of it or nothing. One like it that a crash has
// left is as good, and reported as not fresh.
func addPiece(ctx context.Context, fsys storage.FS, path, model string, size int64) (fresh bool, err error) {
	temp := filepath.Join(filepath.Dir(path), ".vdfs-piece.tmp")
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	f, err := fsys.Open(temp, storage.Create)
	if err != nil {
		return false, err
	}
	err = lay(ctx, f, newHeader(size, 0), nil)
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.CopyOwner(model, temp)
	}
	if err == nil || errors.Is(err, fs.ErrPermission) {
		err = fsys.Rename(temp, path)
	}
	if err == nil {
		return true, nil
	}
	if errors.Is(err, fs.ErrExist) {
		err = sameFile(fsys, path, temp)
	}
	if gone := fsys.Remove(temp); gone != nil {
		err = errors.Join(err, gone)
	}
	return false, err
}

// sameFile fails unless the file in the way of a new one holds just the same.
func sameFile(fsys storage.FS, path, temp string) error {
	var content [2][]byte
	for i, p := range []string{temp, path} {
		f, err := fsys.Open(p, storage.ReadOnly)
		if err != nil {
			return err
		}
		st, err := f.Stat()
		if err == nil && i == 1 && st.Size != int64(len(content[0])) {
			return errors.Join(fmt.Errorf("%s: %w", path, fs.ErrExist), f.Close())
		}
		content[i] = make([]byte, st.Size)
		if err == nil {
			err = storage.ReadFull(f, content[i], 0)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if !bytes.Equal(content[0], content[1]) {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	return nil
}
