package fs

import (
	"errors"
	"path/filepath"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Server is a mount that is being served.
type Server struct {
	fuse    *fuse.Server
	options *Options
	tree    *tree
	done    chan struct{} // closed when the mount is gone and the chains are closed
	err     error         // of closing them; set before done is closed
}

// serve answers requests until the mount is gone, whoever ended it.
func (s *Server) serve() {
	s.fuse.Serve()
	s.err = errors.Join(s.tree.closeRoutes(), s.options.closeChains())
	close(s.done)
}

// Mountpoint is absolute and without symbolic links.
func (s *Server) Mountpoint() string { return s.options.Mountpoint }

// DiskFiles are the paths of the disks of all sources, in their order: the mountpoint
// itself where that is a file.
func (s *Server) DiskFiles() []string {
	var list []string
	for _, p := range s.tree.disks {
		list = append(list, filepath.Join(s.options.Mountpoint, p))
	}
	return list
}

// Wait returns when the mount is gone and every image is closed.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// Unmount ends the mount, unless it is in use: then the error is a *BusyError
// that names who uses it, and serving goes on. It does not wait; Wait does.
func (s *Server) Unmount() error { return Unmount(s.options.Mountpoint) }
