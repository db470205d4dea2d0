package vdtest

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"sync"

	"vdfs/vdcore/storage"
)

const (
	toyBlock  = 4096
	toyBlocks = 40
	toyFirst  = 1 + (4*toyBlocks+511)/512 // sector of slot 0
	toyZero   = 1                         // entries: 0 asks the parent, 1 is zeros, n+2 is slot n
)

// toyBug is a mistake a toy makes.
type toyBug int

const (
	toySound toyBug = iota
	toyNoFirstBarrier
	toyNoSecondBarrier
	toyNoFill        // what the guest did not write of a block is zeros, not the parent's
	toyReuse         // a freed slot is used again before the table says so
	toySwallow       // errors of barriers are not told
	toyRetry         // a failed barrier is simply tried again
	toyParent        // writes to the parent
	toyEarly         // reads change the file
	toyLeavesOpen    // Close forgets a file
	toyWrongHole     // SeekHole says nothing of data
	toyForgetsOnSync // a sync forgets one entry
)

// toy is a block-mapped image over a flat parent, to test the suites with.
type toy struct {
	mu       sync.Mutex
	bug      toyBug
	f, below storage.File
	table    [toyBlocks]uint32
	dirty    map[int]bool
	used     map[uint32]bool
	freed    []uint32 // slots that the table on disk still leads to
	broken   error
	write    bool
}

func toyCase(bug toyBug) WriteCase {
	r := rand.New(rand.NewPCG(1, 1))
	flat := make([]byte, toyBlock*toyBlocks-512)
	randomBytes(r, flat)
	return WriteCase{
		Name: "toy", Files: map[string][]byte{"/toy": make([]byte, toyFirst*512), "/flat": flat},
		Open: "/toy", Flat: flat, BlockSize: toyBlock,
		IsTable: func(path string, s int64) bool { return path == "/toy" && s > 0 && s < toyFirst },
		With:    func(fsys storage.FS, path string, write bool) (Target, error) { return openToy(bug, fsys, path, write) },
	}
}

func openToy(bug toyBug, fsys storage.FS, path string, write bool) (Target, error) {
	mode := storage.ReadOnly
	if write {
		mode = storage.ReadWrite
	}
	below := storage.ReadOnly
	if bug == toyParent {
		below = mode
	}
	f, err := fsys.Open(path, mode)
	if err != nil {
		return nil, err
	}
	flat, err := fsys.Open("/flat", below)
	if err != nil {
		f.Close()
		return nil, err
	}
	t := &toy{bug: bug, f: f, below: flat, dirty: map[int]bool{}, used: map[uint32]bool{}, write: write}
	buf := make([]byte, 4*toyBlocks)
	if err := storage.ReadFull(f, buf, 512); err != nil {
		t.Close()
		return nil, err
	}
	st, _ := f.Stat()
	for i := range t.table {
		if t.table[i] = binary.LittleEndian.Uint32(buf[4*i:]); t.table[i] > toyZero {
			t.used[t.table[i]] = true
			if t.at(i) >= st.Size {
				t.write = false
				return nil, errors.Join(errors.New("entry behind the end"), t.Close())
			}
		}
	}
	if bug == toyEarly {
		f.Sync()
	}
	return t, nil
}

func (t *toy) at(i int) int64 { return (toyFirst + int64(t.table[i]-2)*toyBlock/512) * 512 }

func (t *toy) Capacity() int64 { return toyBlock*toyBlocks - 512 }

// each calls fn for the parts of a range in each block.
func (t *toy) each(off, n int64, fn func(i int, in, from, to int64) error) error {
	for from := int64(0); from < n; {
		i, in := int((off+from)/toyBlock), (off+from)%toyBlock
		to := min(n, from+toyBlock-in)
		if err := fn(i, in, from, to); err != nil {
			return err
		}
		from = to
	}
	return nil
}

func (t *toy) ReadAt(p []byte, off int64) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.each(off, int64(len(p)), func(i int, in, from, to int64) error { return t.read(i, in, p[from:to]) }); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *toy) read(i int, in int64, p []byte) error {
	clear(p)
	switch t.table[i] {
	case 0:
		_, err := t.below.ReadAt(p, int64(i)*toyBlock+in)
		return ignoreEOF(err)
	case toyZero:
		return nil
	}
	_, err := t.f.ReadAt(p, t.at(i)+in)
	return ignoreEOF(err)
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func (t *toy) WriteAt(p []byte, off int64) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return 0, t.broken
	}
	if t.bug == toyParent {
		if _, err := t.below.WriteAt(p, off); err != nil {
			return 0, err
		}
	}
	err := t.each(off, int64(len(p)), func(i int, in, from, to int64) error { return t.put(i, in, p[from:to]) })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *toy) put(i int, in int64, p []byte) error {
	if t.table[i] > toyZero {
		_, err := t.f.WriteAt(p, t.at(i)+in)
		return err
	}
	block := make([]byte, toyBlock)
	if t.bug != toyNoFill {
		if err := t.read(i, 0, block); err != nil {
			return err
		}
	}
	copy(block[in:], p)
	slot := t.slot()
	old := t.table[i]
	t.table[i] = slot
	if _, err := t.f.WriteAt(block, t.at(i)); err != nil {
		t.table[i] = old
		return err
	}
	t.used[slot], t.dirty[i] = true, true
	return nil
}

func (t *toy) slot() uint32 {
	if t.bug == toyReuse && len(t.freed) > 0 {
		s := t.freed[0]
		t.freed = t.freed[1:]
		return s
	}
	s := uint32(2)
	for t.used[s] {
		s++
	}
	return s
}

func (t *toy) Discard(off, n int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return t.broken
	}
	return t.each(off, n, func(i int, in, from, to int64) error {
		if in != 0 || to-from != toyBlock {
			return t.put(i, in, make([]byte, to-from))
		}
		if t.table[i] > toyZero {
			t.freed = append(t.freed, t.table[i])
		}
		t.table[i], t.dirty[i] = toyZero, true
		return nil
	})
}

func (t *toy) Allocate(int64, int64) error { return storage.ErrNoAllocate }

func (t *toy) Sync() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return t.broken
	}
	if err := t.barrier(t.bug == toyNoFirstBarrier); err != nil {
		return err
	}
	for i := range t.dirty {
		var e [4]byte
		binary.LittleEndian.PutUint32(e[:], t.table[i])
		if t.bug == toyForgetsOnSync && i == toyBlocks/2 {
			delete(t.dirty, i)
			continue
		}
		if _, err := t.f.WriteAt(e[:], 512+4*int64(i)); err != nil {
			return err
		}
		delete(t.dirty, i)
	}
	if err := t.barrier(t.bug == toyNoSecondBarrier); err != nil {
		return err
	}
	for _, s := range t.freed {
		delete(t.used, s)
	}
	t.freed = nil
	return nil
}

func (t *toy) barrier(left bool) error {
	if left {
		return nil
	}
	err := t.f.Sync()
	if t.bug == toySwallow {
		return nil
	}
	if t.bug != toyRetry {
		t.broken = err
	}
	return err
}

func (t *toy) SeekData(off int64) (int64, error) {
	if t.bug == toyWrongHole {
		return t.Capacity(), nil
	}
	return off, nil
}

func (t *toy) SeekHole(int64) (int64, error) { return t.Capacity(), nil }

func (t *toy) Close() error {
	var err error
	if t.write {
		err = t.Sync()
	}
	if t.bug != toyLeavesOpen {
		t.below.Close()
	}
	return errors.Join(err, t.f.Close())
}
