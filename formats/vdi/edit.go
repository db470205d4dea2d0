package vdi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// maxComment leaves room for the NUL that ends it, bytes.
const maxComment = 255

var _ vdcore.Editor = (*image)(nil)

// Edit changes the header, all of which lies in the first sector: one write, old or
// new after a crash.
func (i *image) Edit(fsys storage.FS, e vdcore.Edit) error {
	f, err := fsys.Open(i.file.Path(), storage.ReadWrite)
	if err != nil {
		return err
	}
	b := make([]byte, min(i.size, headerRead))
	err = storage.ReadFull(f, b, 0)
	if err == nil {
		err = i.header.patch(b, e)
	}
	if err == nil {
		_, err = parseHeader(b)
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// spots are where what can be set lies in the file; 0 is nowhere.
type spots struct{ comment, pchs, lchs, uuids int }

const (
	sizeAt  = 72  // of the header size, version 1
	lchsEnd = 472 // of the long header
)

func (h *header) spots() spots {
	switch {
	case h.Version == version0:
		return spots{comment: 80, pchs: 336, uuids: 372}
	case h.OffMap < lchsEnd:
		return spots{comment: 84, pchs: 348, uuids: 392}
	}
	return spots{comment: 84, pchs: 348, uuids: 392, lchs: 456}
}

// patch changes the header in its bytes. A short one becomes long for an LCHS if the
// map leaves room, as VirtualBox makes it.
func (h *header) patch(b []byte, e vdcore.Edit) error {
	at := h.spots()
	switch {
	case e.ParentFile != nil:
		return fmt.Errorf("a VDI knows its parent by UUID, and has no place for a file name: %w", vdcore.ErrUnsupported)
	case e.ParentModUUID != nil && h.Version == version0:
		return fmt.Errorf("a VDI of version 0.2 has no place for the parent's modification UUID: %w", vdcore.ErrUnsupported)
	case e.LCHS != nil && at.lchs == 0:
		return fmt.Errorf("the header has no place for a logical geometry, and the block map at %d leaves no room for one: %w", h.OffMap, vdcore.ErrUnsupported)
	}
	if e.Comment != nil {
		if err := checkComment(*e.Comment); err != nil {
			return err
		}
		field := b[at.comment : at.comment+maxComment+1]
		clear(field)
		copy(field, *e.Comment)
	}
	for k, id := range []*uuid.UUID{e.UUID, e.ModUUID, e.ParentUUID, e.ParentModUUID} {
		if id != nil {
			stored := swap(*id)
			copy(b[at.uuids+16*k:], stored[:])
		}
	}
	putGeometry(b, at.pchs, e.PCHS)
	if e.LCHS != nil {
		putGeometry(b, at.lchs, e.LCHS)
		binary.LittleEndian.PutUint32(b[sizeAt:], max(h.HeaderSize, headerLong))
	}
	return nil
}

func checkComment(c string) error {
	switch {
	case len(c) > maxComment:
		return fmt.Errorf("the comment has %d bytes in UTF-8, and a VDI holds %d: %w", len(c), maxComment, vdcore.ErrUnsupported)
	case !utf8.ValidString(c) || strings.ContainsRune(c, 0):
		return fmt.Errorf("the comment is not text in UTF-8: %w", vdcore.ErrUnsupported)
	}
	return nil
}

func putGeometry(b []byte, at int, g *vdcore.Geometry) {
	if g != nil {
		copy(b[at:], geometry{g.Cylinders, g.Heads, g.Sectors, 512}.encode(nil))
	}
}
