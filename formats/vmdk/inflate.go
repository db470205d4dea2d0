package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// A compressed grain is a zlib stream (RFC 1950), all of it in memory, as is the place
// for what it unpacks to. So its frame is taken apart here: what did not pack, and was
// stored, is copied once instead of three times, and its checksum computed at three
// times the speed of hash/adler32. The rest is the library's.

var (
	errTrailing   = errors.New("bytes behind the compressed data")
	errZlib       = errors.New("zlib: invalid header")
	errDictionary = errors.New("zlib: a preset dictionary")
	errChecksum   = errors.New("zlib: invalid checksum")
	errTooLong    = errors.New("more than fits")
	errStored     = errors.New("deflate: invalid length of a stored block")
	errPacked     = errors.New("deflate: not only stored blocks")
)

// inflate unpacks data into unit. The first need bytes must be there; the last
// grain of an extent may end with the extent, and is filled up.
func inflate(unit, data []byte, need int64) error {
	if err := checkZlib(data); err != nil {
		return err
	}
	n, rest, err := unstore(unit, data[2:])
	if err == errPacked {
		n, rest, err = inflateAll(unit, data[2:])
	}
	switch {
	case err == errTooLong:
		return fmt.Errorf("it inflates to more than a grain of %d bytes", len(unit))
	case err != nil:
		return err
	case len(rest) < 4:
		return io.ErrUnexpectedEOF
	case binary.BigEndian.Uint32(rest) != adler(unit[:n]):
		return errChecksum
	case len(rest) > 4:
		return errTrailing
	case int64(n) < need:
		return fmt.Errorf("it inflates to %d bytes, %d are needed", n, need)
	}
	clear(unit[n:])
	return nil
}

// checkZlib checks the two bytes before the deflated data: method 8 with a window
// of up to 32 KiB, a multiple of 31.
func checkZlib(data []byte) error {
	switch {
	case len(data) < 2:
		return io.ErrUnexpectedEOF
	case data[0]&0x0F != 8 || data[0]>>4 > 7 || binary.BigEndian.Uint16(data)%31 != 0:
		return errZlib
	case data[1]&0x20 != 0:
		return errDictionary
	}
	return nil
}

// unstore fills unit from a stream of stored blocks (RFC 1951, 3.2.4), each a byte with
// the type and whether it is the last one, two bytes of length and their complement. A
// stream that has another block is errPacked.
func unstore(unit, data []byte) (n int, rest []byte, err error) {
	for final := false; !final; {
		if len(data) > 0 && data[0]&6 != 0 {
			return 0, nil, errPacked
		}
		if len(data) < 5 {
			return 0, nil, io.ErrUnexpectedEOF
		}
		final = data[0]&1 != 0
		size := binary.LittleEndian.Uint16(data[1:])
		if binary.LittleEndian.Uint16(data[3:]) != ^size {
			return 0, nil, errStored
		}
		data = data[5:]
		switch {
		case int(size) > len(data):
			return 0, nil, io.ErrUnexpectedEOF
		case int(size) > len(unit)-n:
			return 0, nil, errTooLong
		}
		n += copy(unit[n:], data[:size])
		data = data[size:]
	}
	return n, data, nil
}

// inflater is a reader of deflated data that is used again and again.
type inflater struct {
	src bytes.Reader
	z   io.ReadCloser
}

var inflaters = sync.Pool{New: func() any { return &inflater{z: flate.NewReader(nil)} }}

// inflateAll fills unit from any deflated data.
func inflateAll(unit, data []byte) (n int, rest []byte, err error) {
	u := inflaters.Get().(*inflater)
	defer inflaters.Put(u)
	u.src.Reset(data)
	if err := u.z.(flate.Resetter).Reset(&u.src, nil); err != nil {
		return 0, nil, err
	}
	n, err = io.ReadFull(u.z, unit)
	switch err {
	case io.EOF, io.ErrUnexpectedEOF: // shorter than the unit, or the data end too early
		if _, err = u.z.Read(make([]byte, 1)); err != io.EOF {
			return 0, nil, err
		}
	case nil:
		if k, err := io.ReadFull(u.z, make([]byte, 1)); k > 0 {
			return 0, nil, errTooLong
		} else if err != io.EOF {
			return 0, nil, err
		}
	default:
		return 0, nil, err
	}
	return n, data[len(data)-u.src.Len():], nil
}
