package fs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"vdfs/vdcore"
	"vdfs/vdcore/contents"
)

// partitions are the files of a disk's partitions. The table is read when somebody first
// looks for one of them, so that mounting hundreds of layers reads none; what was found
// stays as long as the mount.
type partitions struct {
	tree  *tree
	disk  *node
	dir   *node // where they are shown
	whole *diskFile
	once  sync.Once
	files []*node // set by once, and not changed any more
}

// partitionBits: below are the bits of the disk's own FUSE id, or its twin's, above
// which of its partitions it is, from 1 on.
const partitionBits = 32

// list reads the table the first time. Later it is an atomic load.
func (p *partitions) list() []*node {
	p.once.Do(p.read)
	return p.files
}

func (p *partitions) read() {
	for _, x := range contents.Table(p.whole.disk(), p.whole.size()).Partitions {
		if !x.Extended { // which holds other partitions, and is none
			p.add(x)
		}
	}
}

func (p *partitions) add(x contents.Partition) {
	disk := p.disk
	name := PartitionFile(x.Number)
	path := path.Join(p.dir.path, name)
	n := &node{
		id: uint64(len(p.files)+1)<<partitionBits | disk.id, ino: p.tree.inos.find(path), name: name, path: path,
		mode: syscall.S_IFREG | p.tree.filePerm, mtime: disk.mtime, nlink: 1, parent: p.dir,
	}
	f := p.file(x, path)
	if w := disk.writable(); w != nil {
		n.content = &writtenPart{diskFile: f, whole: w, start: x.Start}
	} else {
		n.content, n.route = f, newRoute(f, p.tree)
	}
	p.files = append(p.files, n)
}

func (p *partitions) file(x contents.Partition, path string) *diskFile {
	f := &diskFile{length: x.Size, path: path, errors: p.whole.errors, torn: p.whole.direct()}
	f.disk = sync.OnceValue(func() guestDisk {
		part, err := p.whole.disk().(*vdcore.Disk).Part(x.Start, x.Size)
		if err != nil { // cannot be: package contents cuts partitions to the disk
			panic(err)
		}
		return part
	})
	f.stored = sync.OnceValue(f.countStored)
	return f
}

// close gives up what reads of partitions took.
func (p *partitions) close() error {
	p.once.Do(func() {}) // no more: nobody looks for them now
	var errs []error
	for _, n := range p.files {
		if n.route != nil {
			errs = append(errs, n.route.close())
		}
	}
	return errors.Join(errs...)
}

// DiskName is the file of the whole topmost disk.
const DiskName = "disk.raw"

// PartitionFile is the name of a partition's file. It lies beside disk.raw, and those
// of a lower state in a folder of the state's name.
func PartitionFile(number int) string { return fmt.Sprintf("p%d.raw", number) }

// find looks a name up in a folder. A table is read only if the name can be that of a
// partition.
func (n *node) find(name string) *node {
	if found := n.index[name]; found != nil || n.shown == nil {
		return found
	}
	var number int
	if _, err := fmt.Sscanf(name, "p%d.raw", &number); err != nil || PartitionFile(number) != name {
		return nil
	}
	for _, p := range n.shown.list() {
		if p.name == name {
			return p
		}
	}
	return nil
}

// list is what a folder shows: its children, and the partitions of its disk.
func (n *node) list() []*node {
	if n.shown == nil {
		return n.children
	}
	return append(slices.Clone(n.children), n.shown.list()...)
}

// writtenPart is a partition of a disk that is written. It cannot be written itself,
// and shows what is written to the disk as soon as that write has returned: it is read
// past the page cache, and of what is mapped the kernel is told, see renew.
type writtenPart struct {
	*diskFile
	whole *writableFile
	start int64        // on it
	opens atomic.Int64 // of the file
}

func (f *writtenPart) direct() bool { return true }

// allocated is asked anew each time; the core remembers it until the map changes.
func (f *writtenPart) allocated() int64 { return f.countStored() }

// seek finds no holes where the disk shows none, see writableFile.seek.
func (f *writtenPart) seek(off int64, hole bool) (int64, error) {
	switch {
	case f.whole.mappable.Load() == 0:
		return f.diskFile.seek(off, hole)
	case hole:
		return f.size(), nil
	}
	return off, nil
}

// renew has the kernel drop what it holds, for mappings, of partitions of a disk of
// which [off, off+n) was just changed. Those who wrote hold pages of the disk locked,
// none of its partitions; so it can wait for the latter, and must, as one may be on its
// way with the old bytes.
func (r *rawFS) renew(disk *node, off, n int64) {
	if disk.partitions == nil || r.kernel == nil {
		return
	}
	for _, p := range disk.partitions.list() {
		f := p.content.(*writtenPart)
		from, to := max(off-f.start, 0), min(off+n-f.start, f.size())
		if f.opens.Load() > 0 && from < to {
			r.kernel.InodeNotify(p.id, from, to-from)
		}
	}
}
