package fs

import (
	"errors"
	"path/filepath"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vdfs/vdcore/evidence"
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
	var ending error
	if s.options.Ending != nil {
		ending = s.options.Ending()
	}
	s.err = errors.Join(ending, s.tree.closeRoutes(), s.options.closeChains())
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

// Prepare has the kernel's maps of the topmost disks made, behind: who opens one of them
// next, to attach a loop device to it, does not wait as long. That takes processor time,
// so it is for when nobody waits for the mount itself any more.
func (s *Server) Prepare() { s.tree.beginRoutes() }

// Wait returns when the mount is gone and every image is closed.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// Written tells of the disks that can be written how much was.
func (s *Server) Written() (list []evidence.Written) {
	for _, n := range s.tree.nodes {
		if f := n.writable(); f != nil {
			list = append(list, evidence.Written{File: n.path, Written: f.written.Load(), Discarded: f.discarded.Load()})
		}
	}
	return list
}

// Unmount ends the mount, unless it is in use: then the error is a *BusyError
// that names who uses it, and serving goes on. It does not wait; Wait does.
func (s *Server) Unmount() error { return Unmount(s.options.Mountpoint) }
