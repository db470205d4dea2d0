package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// placeAt is where the header says at which sector the descriptor begins, and behind
// it, of how many it is.
const placeAt = 28

// putEmbedded changes the descriptor inside a file. It has many sectors, which do not
// reach the disk at once, so the new text is first written behind everything else,
// and made the descriptor by one sector of the header; then it is written to its
// place behind the header, where QEMU looks whatever the header says, and made the
// descriptor there by the same sector. Each step is durable before the next begins.
// A crash leaves the old text or the new one, whole, perhaps at the end of the file;
// any further change brings it back. What QEMU reads behind the header meanwhile,
// content ids and a parent's file name, is old or new too: an Edit leaves the ids,
// and they and the name begin in the first sector.
func (i *image) putEmbedded(fsys storage.FS, old, text []byte) error {
	if bytes.Equal(old, text) && i.own.DescriptorOffset == newDescriptor {
		return nil
	}
	room, err := i.room()
	if err != nil {
		return err
	}
	size := max((int64(len(text))+sector)/sector*sector, min(room, int64(i.own.DescriptorSize)*sector)) // with a NUL
	if size > room || size > maxDescriptorArea {
		return fmt.Errorf("the descriptor would have %d bytes, and the file has room for %d: %w", len(text), room-1, vdcore.ErrUnsupported)
	}
	f, err := fsys.Open(i.files[0].Path(), storage.ReadWrite)
	if err != nil {
		return err
	}
	return errors.Join(i.moveText(f, text, size), f.Close())
}

// moveText does the steps putEmbedded speaks of. size is that of the descriptor's
// place, bytes.
func (i *image) moveText(f storage.File, text []byte, size int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	spare, keep := (st.Size+sector-1)/sector*sector, st.Size
	if i.own.DescriptorOffset != newDescriptor && i.textAt+int64(i.own.DescriptorSize)*sector == spare {
		keep = i.textAt // what a crash has left there
	}
	whole := make([]byte, size)
	copy(whole, text)
	for _, at := range []int64{spare, newDescriptor * sector} {
		if _, err := f.WriteAt(whole, at); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		place := binary.LittleEndian.AppendUint64(nil, uint64(at/sector))
		place = binary.LittleEndian.AppendUint64(place, uint64(size/sector))
		if _, err := f.WriteAt(place, placeAt); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Truncate(keep); err != nil {
		return err
	}
	return f.Sync()
}

// room is how many bytes behind the header are the descriptor's, or nobody's.
func (i *image) room() (int64, error) {
	const from = newDescriptor * sector
	end := int64(i.own.DescriptorOffset+i.own.DescriptorSize) * sector
	for _, p := range i.pieces {
		g, ok := p.(*grains)
		if !ok || g.index != 0 {
			continue
		}
		var err error
		if end, err = i.lowest(g); err != nil {
			return 0, err
		}
		return end - from, nil
	}
	if i.own.DescriptorOffset != newDescriptor {
		return 0, fmt.Errorf("the descriptor lies at sector %d of a file without tables, where it is not changed: %w", i.own.DescriptorOffset, vdcore.ErrUnsupported)
	}
	return end - from, nil
}

// lowest is where the first table or grain of a file begins, but its header counts
// what lies before the first grain, and that is the most.
func (i *image) lowest(g *grains) (int64, error) {
	h := g.head.(*hostedHeader)
	low := h.overhead(g.length)
	for _, dir := range []int64{g.dir, g.spare} {
		if dir == 0 {
			continue
		}
		low = min(low, dir)
		err := g.eachEntry(dir, g.tableCount()*g.width, func(_ int64, entry uint64) error {
			pos, _ := g.table(entry)
			low = min(low, pos)
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	const step = 1 << 30 // guest bytes mapped at a time
	var list []vdcore.Extent
	for off := g.at; off < g.end(); off += step {
		var err error
		if list, err = g.mapTo(list[:0], off, min(off+step, g.end())); err != nil {
			return 0, err
		}
		for _, e := range list {
			if e.Kind == vdcore.Data {
				low = min(low, e.Pos)
			}
		}
	}
	return low, nil
}
