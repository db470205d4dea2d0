package fs

import (
	"encoding/json"
	"os"
	"strconv"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vdfs/vdcore/evidence"
)

// The root of a mount says who serves it, so that `vdfs umount` can wait until
// the images are closed and `vdfs list` can name them.
const (
	XattrPID    = "user.vdfs.pid"    // decimal
	XattrImages = "user.vdfs.images" // JSON list of absolute paths
	XattrPaths  = "user.vdfs.paths"  // JSON list of the [PathTaken] of each
	// XattrEnd says what there is to wait for after the mount has gone: EndsSoon or
	// EndsLong. Who asks is about to unmount, and is noted in the audit file.
	XattrEnd = "user.vdfs.end"
)

// GetXAttr knows nothing of any node but the root; reads and opens of files do
// not ask.
func (r *rawFS) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	if h.NodeId != fuse.FUSE_ROOT_ID {
		return 0, fuse.ENODATA
	}
	switch attr {
	case XattrPID:
		return answerXattr(dest, strconv.AppendInt(nil, int64(os.Getpid()), 10))
	case XattrImages:
		return answerJSON(dest, r.images)
	case XattrPaths:
		list := []PathTaken{}
		for _, route := range r.routes {
			list = append(list, route.path())
		}
		return answerJSON(dest, list)
	case XattrEnd:
		if len(dest) > 0 { // not only its length
			r.options.Audit.Asked(evidence.Caller{UID: h.Uid, GID: h.Gid, PID: h.Pid})
		}
		return answerXattr(dest, []byte(r.options.end()))
	}
	return 0, fuse.ENODATA
}

// What XattrEnd says.
const (
	EndsSoon = "soon"
	EndsLong = "long"
)

func (o *Options) end() string {
	if o.EndsLong {
		return EndsLong
	}
	return EndsSoon
}

func answerJSON(dest []byte, v any) (uint32, fuse.Status) {
	text, err := json.Marshal(v)
	if err != nil {
		return 0, status(err)
	}
	return answerXattr(dest, text)
}

func (r *rawFS) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if h.NodeId != fuse.FUSE_ROOT_ID {
		return 0, fuse.OK
	}
	return answerXattr(dest, []byte(XattrPID+"\x00"+XattrImages+"\x00"+XattrPaths+"\x00"))
}

// answerXattr copies a value, or says how much room it takes.
func answerXattr(dest, value []byte) (uint32, fuse.Status) {
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}
