package fs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"vdfs/vdcore"
)

// tree is all that is mounted.
type tree struct {
	options *Options
	nodes   []*node // by id-1; the first is the root
	owner   owner
	inos    inodes

	dirPerm, filePerm uint32
	writePerm         uint32   // of a disk that can be written
	blocks            uint64   // of all disks together, for statfs
	images            []string // absolute paths, for the root's attributes
	routes            []*route // of the same images' disks
	disks             []string // files of the same disks, inside the mount
	errors            *ioErrors
	reasons           *reasons
	limits            limits
}

// newTree lays out the tree for o. asFile makes the first disk the root itself.
func newTree(o *Options, asFile bool) *tree {
	t := &tree{
		options: o, owner: o.owner(), inos: inodes{}, errors: newIOErrors(o.Log, o.Audit), reasons: newReasons(o.Log),
		dirPerm: 0o555 &^ o.mask(), filePerm: 0o444 &^ o.mask(), writePerm: 0o644 &^ o.mask(),
	}
	for _, s := range o.Disks {
		top := topLayer(s.Chain)
		t.blocks += uint64(top.Info().Capacity+blockSize-1) / blockSize
		t.images = append(t.images, top.Path)
	}
	if asFile {
		c := o.Disks[0].Chain
		top := topLayer(c).Index
		t.routes = append(t.routes, t.addDisk(nil, "", c, top, modified(c)[top], nil).route)
		t.disks = append(t.disks, "")
		return t
	}
	root := t.addDir(nil, "", time.Time{})
	taken := names{}
	for _, s := range o.Disks {
		t.addSource(root, taken.take(s.Folder()), s, o)
	}
	return t
}

// Folder is the name of the folder of s, unless another one has it already.
func (s Source) Folder() string {
	if s.Name != "" {
		return safeName(s.Name)
	}
	return safeName(topLayer(s.Chain).Name())
}

func topLayer(c *vdcore.Chain) *vdcore.Layer { return c.Layers()[len(c.Layers())-1] }

func (o *Options) owner() owner {
	own := owner{uint32(os.Geteuid()), uint32(os.Getegid())}
	if o.UID != nil {
		own.uid = *o.UID
	}
	if o.GID != nil {
		own.gid = *o.GID
	}
	return own
}

// mask is what is taken off the modes. With AllowRoot alone the kernel lets
// everybody reach the mount, the modes keep all but the owner and root out.
func (o *Options) mask() uint32 {
	m := o.Umask & 0o777
	if o.AllowRoot && !o.AllowOther {
		m |= 0o077
	}
	return m
}

// addSource adds the folder of one source.
func (t *tree) addSource(root *node, name string, s Source, o *Options) {
	c := s.Chain
	dir := t.addDir(root, name, time.Time{})
	mtimes := modified(c)
	top := topLayer(c).Index
	disk := t.addDisk(dir, DiskName, c, top, mtimes[top], dir)
	t.routes = append(t.routes, disk.route)
	t.disks = append(t.disks, disk.path)
	info := newInfoFile(s, o, disk)
	t.addStates(dir, s, info)
	t.addFile(dir, "info.json", info, disk.mtime)
	if disk.writable() != nil {
		info.info()
		disk.partitions.list()
	}
}

// addDisk adds the file of a layer's disk; its partitions are shown in parts, unless nil.
func (t *tree) addDisk(dir *node, name string, c *vdcore.Chain, layer int, mtime time.Time, parts *node) *node {
	f := newDiskFile(c, layer, t.errors)
	n := t.addFile(dir, name, f, mtime)
	f.path = n.path
	if layer == topLayer(c).Index && c.Top().Writable() {
		n.content, n.mode = newWritableFile(f, c.Top(), mtime), syscall.S_IFREG|t.writePerm
	} else {
		n.route = newRoute(f, t)
	}
	if parts != nil {
		n.partitions = &partitions{tree: t, disk: n, dir: parts, whole: f}
		parts.shown = n.partitions
	}
	return n
}

// modified is, for each layer, when the newest of it and those below was written.
func modified(c *vdcore.Chain) []time.Time {
	var newest time.Time
	list := make([]time.Time, len(c.Layers()))
	for i, l := range c.Layers() {
		if l.Modified.After(newest) {
			newest = l.Modified
		}
		list[i] = newest
	}
	return list
}

func (t *tree) addDir(parent *node, name string, mtime time.Time) *node {
	n := t.add(parent, name, syscall.S_IFDIR|t.dirPerm, mtime)
	n.index = map[string]*node{}
	n.listing = sync.OnceValue(n.list)
	n.nlink = 2
	return n
}

func (t *tree) addFile(parent *node, name string, c content, mtime time.Time) *node {
	n := t.add(parent, name, syscall.S_IFREG|t.filePerm, mtime)
	n.content, n.nlink = c, 1
	return n
}

// add enters a node into the tree. A folder is as new as the newest in it.
func (t *tree) add(parent *node, name string, mode uint32, mtime time.Time) *node {
	n := &node{id: uint64(len(t.nodes)) + 1, name: name, mode: mode, mtime: mtime, parent: parent}
	t.nodes = append(t.nodes, n)
	if parent == nil {
		n.parent, n.ino = n, 1
		return n
	}
	n.path = path.Join(parent.path, name)
	n.ino = t.inos.take(n.path)
	parent.children = append(parent.children, n)
	parent.index[name] = n
	if n.isDir() {
		parent.nlink++
	}
	for p := parent; n.mtime.After(p.mtime); p = p.parent {
		p.mtime = n.mtime
	}
	return n
}

// checkRoutes fails if a disk must be read by the kernel, and cannot.
func (t *tree) checkRoutes() error {
	for i, route := range t.routes {
		if route == nil || !route.must {
			continue
		}
		if route.decide(true); route.failed != nil {
			return fmt.Errorf("%s: --kernel-reads=require: %w", t.images[i], route.failed)
		}
	}
	return nil
}

// beginRoutes has the maps of the topmost disks made, behind.
func (t *tree) beginRoutes() {
	for _, route := range t.routes {
		if route != nil {
			route.begin()
		}
	}
}

func (t *tree) closeRoutes() error {
	t.limits.stop.Store(true)
	var errs []error
	for _, n := range t.nodes {
		if n.route != nil {
			errs = append(errs, n.route.close())
		}
		if n.partitions != nil {
			errs = append(errs, n.partitions.close())
		}
	}
	return errors.Join(errs...)
}

// node finds a node the kernel names; it names none it was not given. A node and its
// twin are one here.
func (t *tree) node(id uint64) *node {
	n := t.nodes[(uint32(id)-1)%uint32(len(t.nodes))]
	if k := id >> partitionBits; k > 0 {
		return n.partitions.list()[k-1]
	}
	return n
}
