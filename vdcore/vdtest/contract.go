package vdtest

import (
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Contract phrases an image in the words of VirtualBox's backend interface: one
// read call is clipped to what the image can answer in one way, and "block free"
// is an answer, not data. It exists to state those semantics in tests.
type Contract struct{ Image vdcore.Image }

// ReadResult is the outcome of one read call.
type ReadResult int

const (
	ReadData  ReadResult = iota // the buffer holds processed bytes
	BlockFree                   // ask the parent for exactly processed bytes
	ReadError
)

// Read reads at most len(p) bytes at off and says how many it answered for.
func (c Contract) Read(p []byte, off int64) (ReadResult, int64, error) {
	extents, err := c.Image.Map(nil, off, int64(len(p)))
	if err != nil {
		return ReadError, 0, err
	}
	e := extents[0]
	switch e.Kind {
	case vdcore.Free:
		return BlockFree, e.Len, nil
	case vdcore.Zero:
		clear(p[:e.Len])
	case vdcore.Data:
		err = storage.ReadFull(c.Image.Files()[e.File], p[:e.Len], e.Pos)
	case vdcore.Packed:
		var unit []byte
		if unit, err = c.Image.(vdcore.Decoder).Decode(e, nil); err == nil {
			copy(p[:e.Len], unit[e.Skip:])
		}
	default:
		err = vdcore.ErrLost
	}
	if err != nil {
		return ReadError, 0, fmt.Errorf("at %d: %w", off, err)
	}
	return ReadData, e.Len, nil
}

// Stack reads a chain of images, topmost first, the way the interface asks for:
// every answer clips the question put to the next image. It is the reference the
// flat map is compared with.
type Stack []vdcore.Image

// ReadAt fills p or fails; it knows nothing of Chain, Disk or the flat map.
func (s Stack) ReadAt(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := s.step(p, off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (s Stack) step(p []byte, off int64) (int64, error) {
	n := int64(len(p))
	for _, img := range s {
		left := img.Info().Capacity - off
		if left <= 0 { // zeros past the end of a smaller parent
			break
		}
		n = min(n, left)
		result, clipped, err := Contract{img}.Read(p[:n], off)
		if err != nil {
			return 0, err
		}
		n = clipped
		if result == ReadData {
			return n, nil
		}
	}
	clear(p[:n])
	return n, nil
}
