package machine

import (
	"bytes"
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"

	"vdfs/vdcore"
	"vdfs/vdcore/vbox"
)

// vboxReader turns a .vbox file into a machine.
type vboxReader struct {
	*reader
	file  *vbox.File
	found map[uuid.UUID]vdcore.Found // images by their headers; nil until needed
}

// vbox reads a VirtualBox machine.
func (r *reader) vbox() error {
	text, err := r.text(r.File)
	if err != nil {
		return err
	}
	file, err := vbox.Parse(bytes.NewReader(text))
	if err != nil {
		return r.broken(err)
	}
	states := 0
	for _, s := range file.Snapshots {
		states += len(s.Attached)
	}
	if err := r.bound(len(file.Attached), len(file.Snapshots), states); err != nil {
		return err
	}
	r.Kind, r.Name = VirtualBox, cmp.Or(file.Name, r.Name)
	v := &vboxReader{reader: r, file: file}
	for _, s := range file.Snapshots {
		r.Snapshots = append(r.Snapshots, Snapshot{
			vdcore.Snapshot{Name: s.Name, Description: s.Description, Taken: s.Taken}, s.Parent, s.UUID == file.CurrentSnapshot,
		})
	}
	v.history(v.current())
	return nil
}

// current adds the disks attached now, and returns them by the base they were made
// from.
func (v *vboxReader) current() map[uuid.UUID][]*Disk {
	roots := map[uuid.UUID][]*Disk{}
	for _, a := range v.file.Attached {
		d := v.disk(a)
		root := v.root(a.Image)
		roots[root] = append(roots[root], d)
	}
	return roots
}

func (v *vboxReader) disk(a vbox.Attachment) *Disk {
	img := v.resolve(a.Image)
	return v.add(&Disk{Name: v.diskName(a.Image), Slot: slot(a), Err: img.err, image: img})
}

func slot(a vbox.Attachment) string {
	s := fmt.Sprintf("%s port %s", cmp.Or(a.Controller, "controller"), a.Port)
	if a.Device != "" && a.Device != "0" {
		s += " device " + a.Device
	}
	return s
}

// history adds to each disk its states in the snapshots, newest last, and the disks
// that only snapshots have. Those of one base are told apart by their slot, which
// matters where one base serves several disks ("multi-attach").
func (v *vboxReader) history(roots map[uuid.UUID][]*Disk) {
	defer v.showNewest()
	for i, s := range v.file.Snapshots {
		for _, a := range s.Attached {
			root := v.root(a.Image)
			d := pick(roots[root], slot(a))
			if d == nil && v.full() {
				return
			}
			if d == nil {
				d = v.disk(a)
				d.Detached = true
				roots[root] = append(roots[root], d)
			}
			d.states = append(d.states, state{i, v.locate(a.Image)})
		}
	}
}

// pick is the disk of a slot, the first if none is in it.
func pick(disks []*Disk, slot string) *Disk {
	for _, d := range disks {
		if d.Slot == slot {
			return d
		}
	}
	if len(disks) == 0 {
		return nil
	}
	return disks[0]
}

// root is the base of an image, by the machine file, then by the headers: the file of a
// linked clone lists no media.
func (v *vboxReader) root(id uuid.UUID) uuid.UUID {
	if _, listed := v.file.Media[id]; listed {
		return v.file.Root(id)
	}
	found := v.images()
	for range found {
		f, ok := found[id]
		if !ok || f.Info.Parent == nil || f.Info.Parent.UUID == uuid.Nil {
			break
		}
		id = f.Info.Parent.UUID
	}
	return id
}

// diskName is the name of the base, which people gave it, unless that belongs to another
// machine: a linked clone's disk is called as the machine.
func (v *vboxReader) diskName(id uuid.UUID) string {
	location := v.file.Media[v.file.Root(id)].Location
	if location == "" || filepath.IsAbs(location) && !filepath.IsLocal(relative(v.dir, location)) {
		return v.Name
	}
	return stem(location)
}

// relative is path as seen from dir.
func relative(dir, path string) string {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return path
	}
	return rel
}

// resolve finds the image of a UUID, and holds it to that.
func (v *vboxReader) resolve(id uuid.UUID) image {
	i := v.locate(id)
	if v.file.Media[v.file.Root(id)].Encrypted {
		i.err = fmt.Errorf("%s: %w: the disk is encrypted; VirtualBox can decrypt it (VBoxManage encryptmedium), and naming the image shows it as it is", i.path, vdcore.ErrUnsupported)
		return i
	}
	if i.err == nil {
		i.err = v.confirm(i)
	}
	if i.err != nil {
		if f, ok := v.images()[id]; ok {
			return image{id: id, path: f.Path}
		}
	}
	return i
}

// locate finds where an image lies: where the file says, else by the headers of the
// images in the machine's folders. What lies there is not looked at.
func (v *vboxReader) locate(id uuid.UUID) image {
	i := image{id: id}
	if said := v.file.Media[id].Location; said != "" {
		if i.path, i.err = v.find(said); i.err == nil {
			return i
		}
	}
	if f, ok := v.images()[id]; ok {
		return image{id: id, path: f.Path}
	}
	if i.err == nil {
		i.err = fmt.Errorf("%s: %w: it does not say where the image with UUID %s lies, and none in its folder has that; name its folder with --search",
			v.File, vdcore.ErrMissing, id)
	}
	return i
}

// confirm holds an image to its UUID, if its format has one.
func (v *vboxReader) confirm(i image) error {
	f, err := vdcore.Peek(v.fs, i.path)
	if err != nil || f.Info.UUID == uuid.Nil || f.Info.UUID == i.id {
		return nil // what is wrong with it is said when it is opened
	}
	return fmt.Errorf("%s: %w: its UUID is %s, and %s has UUID %s there", i.path, vdcore.ErrMismatch, f.Info.UUID, v.File, i.id)
}

// images are those of the machine's folders and the search folders, by UUID.
func (v *vboxReader) images() map[uuid.UUID]vdcore.Found {
	if v.found != nil {
		return v.found
	}
	v.found = map[uuid.UUID]vdcore.Found{}
	folder := filepath.FromSlash(cmp.Or(v.file.SnapshotFolder, "Snapshots"))
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(v.dir, folder)
	}
	for _, f := range vdcore.Images(v.fs, append([]string{v.dir, folder}, v.fs.Search()...)...) {
		if _, known := v.found[f.Info.UUID]; !known {
			v.found[f.Info.UUID] = f
		}
	}
	return v.found
}
