package vmdk

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"vdfs/vdcore"
)

// longCID means that ddb.longContentID holds the content id.
const longCID = 0xFFFFFFFE

// uuidText is the length of the one spelling of a UUID that descriptors have.
const uuidText = 36

// field is a value of the descriptor that is replaced in place, by one of the same
// length, so that nothing else moves.
type field struct {
	at  int64 // in the first file
	len int
}

// findFields finds what changes when the image is renewed: the modification UUID,
// which VirtualBox goes by, and the CID, which QEMU and VMware go by.
func (w *writer) findFields() (err error) {
	if w.mod, err = w.field("ddb.uuid.modification"); err != nil {
		return err
	}
	if w.cid, err = w.field("CID"); err != nil {
		return err
	}
	if v, _ := w.desc.get("CID"); !w.info.HasCID && v != "" {
		return refuse(fmt.Sprintf("its CID %.30q is no hexadecimal number, and cannot be renewed", v))
	}
	if w.mod != nil && w.mod.len != uuidText {
		return refuse("its modification UUID is spelt in a way that cannot be renewed")
	}
	return nil
}

// field finds the value of a key; nil when there is none. Of a key that comes twice
// a crash could leave one value old and one new.
func (w *writer) field(key string) (*field, error) {
	v, ok := w.desc.get(key)
	if !ok || v == "" {
		return nil, nil
	}
	if w.desc.count(key) > 1 {
		return nil, refuse("the descriptor sets " + key + " twice, which cannot be renewed at once")
	}
	return &field{w.textAt + int64(w.desc.find(key).at), len(v)}, nil
}

// renew gives the image a new identity, on disk only.
func (w *writer) renew() error {
	if w.mod != nil {
		id, err := uuid.NewRandom()
		if err == nil {
			err = w.replace(w.mod, id.String())
		}
		if err != nil {
			return fmt.Errorf("renew the modification UUID of %s: %w", w.files[0].Path(), err)
		}
	}
	if w.cid == nil {
		return nil
	}
	cid, err := newCID(w.cid.len, w.info.CID)
	if err == nil {
		err = w.replace(w.cid, cid)
	}
	if err != nil {
		return fmt.Errorf("renew the CID of %s: %w", w.files[0].Path(), err)
	}
	return nil
}

func (w *writer) replace(f *field, text string) error {
	_, err := w.files[0].WriteAt([]byte(text), f.at)
	return err
}

// newCID makes a random content id of so many digits. It is neither the old one nor
// one that means something else.
func newCID(digits int, old uint32) (string, error) {
	for {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return "", err
		}
		cid := binary.LittleEndian.Uint32(b[:])
		if digits < 8 {
			cid &= 1<<(4*digits) - 1
		}
		switch cid {
		case 0, old, longCID, vdcore.NoParentCID:
		default:
			return fmt.Sprintf("%0*x", digits, cid), nil
		}
	}
}
