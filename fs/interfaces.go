package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"vdfs/vdcore"
)

// What must fit is checked here, at compile time. Slices and Stateful stand for
// go-fuse's unexported withSlice and statefulResult: a reply that lost its method
// would still work, only slower.
var (
	_ fuse.RawFileSystem = (*rawFS)(nil)

	_ content = (*diskFile)(nil)
	_ content = (*infoFile)(nil)
	_ content = (*writableFile)(nil)
	_ content = (*writtenPart)(nil)

	_ guestDisk = (*vdcore.Disk)(nil)
	_ guestDisk = (*vdcore.Part)(nil)

	_ kernel = (*fuse.Server)(nil)

	_ fuse.ReadResult = (*bytesReply)(nil)
	_ interface {
		Slices() ([][]byte, fuse.Status)
	} = (*bytesReply)(nil)

	_ fuse.ReadResult = (*pipeReply)(nil)
	_ interface {
		Stateful() (fd uintptr, size int)
	} = (*pipeReply)(nil)

	_ error = (*BusyError)(nil)
)
