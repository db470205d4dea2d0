package vdcore

// Streamer writes an image front to back, to a pipe if need be: what a format can
// that never goes back to what it has written. Units nobody appends read as zeros.
type Streamer interface {
	// Unit is how many guest bytes go into one record.
	Unit() int64
	// Pack makes the record of the unit at a guest offset and appends it to dst. data
	// is the unit, shorter where the disk ends in it. Called from many goroutines.
	Pack(dst, data []byte, off int64) ([]byte, error)
	// Append writes the record of the unit at a guest offset. One goroutine calls it,
	// in guest order. After an error the image is worth nothing.
	Append(record []byte, off int64) error
	// Close writes what comes last: without it the image cannot be read.
	Close() error
}
