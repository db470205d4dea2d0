package fs

import (
	"cmp"
	"fmt"
	"path"
	"time"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// State is what info.json tells of a snapshot of the machine.
type State struct {
	File string `json:"file"`
	vdcore.SnapshotDescription
	Image string `json:"image"`
	// Current: the disk as it is now was made from this state, perhaps by others.
	Current bool `json:"current"`
}

// states fills the folder snapshots of one source.
type states struct {
	*tree
	dir   *node
	info  *infoFile
	taken names
	shown map[storage.FileID]bool // layers that have a file
}

// addStates adds the lower states of a chain, and those of its branches that a machine
// has a name for. The number before a name is how many images lie below. The topmost
// image may be a snapshot's state as well, as long as nobody writes to it.
func (t *tree) addStates(dir *node, s Source, info *infoFile) {
	top := topLayer(s.Chain)
	st := &states{t, t.addDir(dir, "snapshots", info.mtime), info, names{}, map[storage.FileID]bool{top.ID(): true}}
	newest := modified(s.Chain)
	for _, l := range s.Chain.Layers() {
		if l != top || len(l.Snapshots) > 0 && !s.Chain.Top().Writable() {
			st.add(s.Chain, l, newest[l.Index], true)
		}
	}
	for _, c := range s.Branches {
		newest := modified(c)
		for _, l := range c.Layers() {
			if len(l.Snapshots) > 0 && !st.shown[l.ID()] {
				st.add(c, l, newest[l.Index], false)
			}
		}
	}
}

// add adds the state seen from a layer: once for each snapshot it is the state of, or
// once under the image's own name. newest is when it was last written to.
func (s *states) add(c *vdcore.Chain, l *vdcore.Layer, newest time.Time, current bool) {
	s.shown[l.ID()] = true
	if len(l.Snapshots) == 0 {
		s.file(c, l, l.Name(), newest)
	}
	for _, snap := range l.Snapshots {
		file := s.file(c, l, cmp.Or(snap.Name, l.Name()), orTime(snap.Taken, newest))
		s.info.states = append(s.info.states, State{file, snap.Describe(), l.Path, current})
	}
}

func (s *states) file(c *vdcore.Chain, l *vdcore.Layer, name string, mtime time.Time) string {
	name = s.taken.takeWith(fmt.Sprintf("%d-%s", l.Index, safeName(name)), ".raw")
	parts := s.addDir(s.dir, name, mtime)
	n := s.addDisk(s.dir, name+".raw", c, l.Index, mtime, parts)
	file := path.Join("snapshots", n.name)
	s.info.snapshots = append(s.info.snapshots, file)
	return file
}

func orTime(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}
