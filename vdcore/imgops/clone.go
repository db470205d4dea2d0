package imgops

import (
	"golang.org/x/sys/unix"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// cloner shares blocks of image files with a copy (a reflink) where both lie in one
// file system that can. Anywhere else bytes are read and written: copy_file_range
// without a reflink is slower than that, measured on ext4, and fills what would be
// holes. One goroutine uses it; a call takes the locks of both files anyway.
type cloner struct {
	out     int   // descriptor of the copy
	unit    int64 // positions and lengths must be multiples of it; 0: nothing is shared
	refused map[storage.File]bool
}

func newCloner(out int) *cloner {
	c := &cloner{out: out, refused: map[storage.File]bool{}}
	var st unix.Statfs_t
	if unix.Fstatfs(out, &st) == nil {
		c.unit = int64(st.Bsize)
	}
	return c
}

// share clones the whole units of an extent and returns their range, empty when
// there is none. Whatever the kernel's reason to refuse, the rest of that file is
// copied: reading is what tells a file system that cannot from a file cut short,
// which the kernel refuses to clone past its end.
func (c *cloner) share(d *vdcore.Disk, f vdcore.Flat) (from, to int64) {
	if f.Kind != vdcore.Data || c.unit <= 0 || (f.Pos-f.Off)%c.unit != 0 || c.refused[f.File] {
		return f.Off, f.Off
	}
	from = (f.Off + c.unit - 1) / c.unit * c.unit
	to = f.End() / c.unit * c.unit
	if from >= to { // a length of 0 would mean all up to the end of the file
		return f.Off, f.Off
	}
	fd, pos, release, ok := d.Window(from, to-from)
	if !ok {
		return f.Off, f.Off
	}
	defer release()
	err := unix.IoctlFileCloneRange(c.out, &unix.FileCloneRange{
		Src_fd: int64(fd), Src_offset: uint64(pos), Src_length: uint64(to - from), Dest_offset: uint64(from),
	})
	if err != nil {
		c.refused[f.File] = true
		return f.Off, f.Off
	}
	return from, to
}
