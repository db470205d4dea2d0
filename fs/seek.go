package fs

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Lseek is asked for SEEK_DATA and SEEK_HOLE only, the kernel does the rest.
func (r *rawFS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
		return fuse.EINVAL
	}
	n := r.node(in.NodeId)
	if n.content == nil {
		return fuse.EINVAL
	}
	off := int64(in.Offset)
	if off < 0 || off >= n.content.size() {
		return fuse.Status(unix.ENXIO)
	}
	seek := n.content.seek
	if n.writable() != nil {
		seek = func(off int64, hole bool) (int64, error) { return r.seekSettled(n, off, hole) }
	}
	at, err := seek(off, in.Whence == unix.SEEK_HOLE)
	out.Offset = uint64(at)
	return status(err)
}

// seekSettled is seek for a disk that is written. What was changed through a mapping
// is in the kernel's pages only until they are written back, and a map that does not
// know of it shows a hole: copied by its holes, the disk would lose it. So before a
// hole is reported, the kernel has to write back and forget what it holds of it. Its
// WRITE requests come while this one waits, and are served by other goroutines.
func (r *rawFS) seekSettled(n *node, off int64, hole bool) (int64, error) {
	var clean span
	for {
		at, h, err := holeFound(n.content, off, hole)
		if h.inside(clean) || r.kernel == nil {
			return at, err
		}
		if st := r.kernel.InodeNotify(n.id, h.from, h.to-h.from); !st.Ok() {
			return allData(n.content, off, hole), nil
		}
		clean = h
	}
}

// span is a range of a file from one offset to before another.
type span struct{ from, to int64 }

func (s span) empty() bool        { return s.from >= s.to }
func (s span) inside(o span) bool { return s.empty() || s.from >= o.from && s.to <= o.to }

// holeFound is seek, and the hole that its answer claims there is.
func holeFound(c content, off int64, hole bool) (at int64, h span, err error) {
	at, err = c.seek(off, hole)
	switch {
	case errors.Is(err, unix.ENXIO): // the hole goes on to the end
		return at, span{off, c.size()}, err
	case err != nil || !hole:
		return at, span{off, at}, err
	}
	end, err := c.seek(at, false)
	if errors.Is(err, unix.ENXIO) {
		end, err = c.size(), nil
	}
	return at, span{at, end}, err
}

// allData is the answer that is right whatever a file holds.
func allData(c content, off int64, hole bool) int64 {
	if hole {
		return c.size()
	}
	return off
}
