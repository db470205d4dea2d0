package erofs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes and positions, bytes; see doc.go.
const (
	superAt    = 1024
	superSize  = 128
	slotSize   = 128
	inodeSize  = 64 // the extended form
	inodeUnit  = 32 // an inode's number is its position in units
	indexSize  = 8
	direntSize = 12

	magic             = 0xE0F5E1E2
	incompatChunks    = 0x4
	incompatDevices   = 0x8
	layoutPlain       = 0
	layoutChunks      = 4
	chunkWithIndexes  = 0x20
	typeFile, typeDir = 1, 2
	modeDir, modeFile = 0o40555, 0o100444
	DiskName          = "disk"
	folderSize        = 3*direntSize + int64(len("."+".."+DiskName))
)

// placement is where the parts of an image lie, bytes.
type placement struct{ root, folder, file, copies int64 }

func (p *Plan) placement() placement {
	var at placement
	at.root = superAt + superSize + int64(len(p.source.Devices))*slotSize
	at.folder = p.roundUp(at.root + inodeSize)
	at.file = at.folder + p.block()
	at.copies = p.roundUp(at.file + inodeSize + p.table())
	return at
}

func (p *Plan) roundUp(n int64) int64 { return (n + p.block() - 1) &^ (p.block() - 1) }

// WriteTo writes the image to an empty file. It walks the extents again.
func (p *Plan) WriteTo(f io.WriterAt) error {
	at := p.placement()
	head := make([]byte, at.file+inodeSize)
	p.putSuper(head[superAt:], at)
	for i, size := range p.source.Devices {
		slot := head[superAt+superSize+i*slotSize:]
		binary.LittleEndian.PutUint32(slot[64:], uint32(min(size>>p.blockBits, noAddress)))
	}
	p.putInode(head[at.root:], inode{layout: layoutPlain, mode: modeDir, links: 2, number: 1, size: folderSize, info: uint32(at.folder >> p.blockBits)})
	putFolder(head[at.folder:], at)
	p.putInode(head[at.file:], inode{layout: layoutChunks, mode: modeFile, links: 1, number: 2, size: p.source.Size, info: uint32(p.chunkBits-p.blockBits) | chunkWithIndexes})
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	return p.writeTable(f, at)
}

func (p *Plan) putSuper(b []byte, at placement) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], magic)
	b[12] = byte(p.blockBits)
	le.PutUint16(b[14:], uint16(at.root/inodeUnit))
	le.PutUint64(b[16:], 2) // inodes
	le.PutUint32(b[36:], uint32((at.copies+p.copied<<p.chunkBits)>>p.blockBits))
	le.PutUint32(b[80:], incompatChunks|incompatDevices)
	le.PutUint16(b[86:], uint16(len(p.source.Devices)))
	le.PutUint16(b[88:], (superAt+superSize)/slotSize)
}

type inode struct {
	layout, mode, links uint16
	number, info        uint32
	size                int64
}

func (p *Plan) putInode(b []byte, n inode) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], 1|n.layout<<1)
	le.PutUint16(b[4:], n.mode)
	le.PutUint64(b[8:], uint64(n.size))
	le.PutUint32(b[16:], n.info)
	le.PutUint32(b[20:], n.number)
	le.PutUint32(b[44:], uint32(n.links))
}

// putFolder writes the three entries, sorted by name, and then their names.
func putFolder(b []byte, at placement) {
	entries := []struct {
		name string
		at   int64
		kind byte
	}{{".", at.root, typeDir}, {"..", at.root, typeDir}, {DiskName, at.file, typeFile}}
	name := len(entries) * direntSize
	for i, e := range entries {
		d := b[i*direntSize:]
		binary.LittleEndian.PutUint64(d, uint64(e.at/inodeUnit))
		binary.LittleEndian.PutUint16(d[8:], uint16(name))
		d[10] = e.kind
		name += copy(b[name:], e.name)
	}
}

const maxBuffer = 1 << 20 // bytes

// errGrown: the source yields other extents than before.
var errGrown = errors.New("the map changed while it was written down")

// table writes the entries of the chunks in order, and the chunks that are copied.
type table struct {
	*Plan
	to     io.WriterAt
	out    *bufio.Writer
	next   int64 // chunk that is written next, its first byte
	copies int64 // where the next copy goes
	end    int64 // of all copies
}

func (p *Plan) writeTable(f io.WriterAt, at placement) error {
	t := &table{Plan: p, to: f, copies: at.copies, end: at.copies + p.copied<<p.chunkBits}
	t.out = bufio.NewWriterSize(io.NewOffsetWriter(f, at.file+inodeSize), int(min(p.table(), maxBuffer)))
	if err := p.source.joined(t.add); err != nil {
		return err
	}
	if t.copies != t.end {
		return errGrown
	}
	if err := t.out.Flush(); err != nil {
		return err
	}
	_, err := f.WriteAt(make([]byte, p.block()), t.end) // the last page is read in full
	return err
}

// add writes the entries of the chunks that begin in e.
func (t *table) add(e Extent) error {
	for ; t.next < e.end(); t.next += t.chunk() {
		if err := t.addChunk(e, t.next, min(t.next+t.chunk(), t.source.Size)); err != nil {
			return err
		}
	}
	return nil
}

// addChunk writes the entry of the chunk [from, to), which begins in e. Device 0 is
// the image itself.
func (t *table) addChunk(e Extent, from, to int64) error {
	switch {
	case !t.inPlace(e, from, to):
		pos, err := t.copy(from, to)
		if err != nil {
			return fmt.Errorf("copying %d bytes at %d: %w", to-from, from, err)
		}
		return t.index(0, pos>>t.blockBits)
	case e.Device == Hole:
		return t.index(0, noAddress)
	}
	return t.index(e.Device+1, (e.Pos+from-e.Off)>>t.blockBits)
}

// copy copies a chunk behind the table and the copies before.
func (t *table) copy(from, to int64) (pos int64, err error) {
	if t.copies == t.end {
		return 0, errGrown
	}
	pos = t.copies
	t.copies += t.chunk()
	n, err := io.Copy(io.NewOffsetWriter(t.to, pos), io.NewSectionReader(t.source.Content, from, to-from))
	if err == nil && n < to-from {
		err = io.ErrUnexpectedEOF
	}
	return pos, err
}

func (t *table) index(device int, address int64) error {
	var b [indexSize]byte
	binary.LittleEndian.PutUint16(b[2:], uint16(device))
	binary.LittleEndian.PutUint32(b[4:], uint32(address))
	_, err := t.out.Write(b[:])
	return err
}
