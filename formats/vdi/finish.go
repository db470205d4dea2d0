package vdi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const copyChunk = 1 << 20 // bytes copied at a time

// moveBytes are moved between two barriers; a test has less.
var moveBytes int64 = 64 << 20

// Finish leaves no slot that nothing leads to: VirtualBox's discard code trips over
// one, and qemu-img calls it an error. A fixed image has given nothing up.
func (w *writer) Finish() error {
	if w.stopped {
		return w.endBehind()
	}
	return w.Compact(context.Background(), nil)
}

// Compact closes the gaps. Stopped, it has Finish leave those there are, as a crash
// would: filling them can take long.
func (w *writer) Compact(ctx context.Context, progress func(done, total int64)) error {
	err := w.closeGaps(ctx, int64(w.header.Blocks), progress)
	w.stopped = ctx.Err() != nil
	return err
}

// closeGaps moves the last slots into the free ones, and ends the file behind them. A
// fixed image has as many slots as blocks, used or not; more are left by growing it.
func (w *writer) closeGaps(ctx context.Context, blocks int64, progress func(done, total int64)) error {
	fixed := w.header.Type == typeFixed
	if fixed && w.end <= blocks && blocks == int64(w.header.Blocks) {
		return nil
	}
	refs, err := w.references()
	if err != nil {
		return err
	}
	used := refs.count()
	if fixed {
		used = blocks
	}
	w.taken, w.low = refs, 0
	if err := w.fill(ctx, used, progress); err != nil {
		return err
	}
	return w.trim(used)
}

// endBehind ends the file behind the last slot in use.
func (w *writer) endBehind() error {
	refs, err := w.references()
	if err != nil {
		return err
	}
	end := refs.last()
	if w.header.Type == typeFixed {
		end = max(end, int64(w.header.Blocks))
	}
	return w.trim(end)
}

// references reads from the map which slots it names.
func (w *writer) references() (bitmap, error) {
	refs := newBitmap(w.end)
	err := w.entries(func(slot uint32, block, count int64) error {
		if int64(slot) >= refs.n || refs.set(int64(slot)) || count > 1 {
			return fmt.Errorf("block %d leads to slot %d, which is another's or none: %w", block, slot, vdcore.ErrCorrupt)
		}
		return nil
	})
	return refs, err
}

// move is a block that changes its slot.
type move struct {
	block    int64
	from, to uint32
}

// fill moves the slots from used on into the free ones below.
func (w *writer) fill(ctx context.Context, used int64, progress func(done, total int64)) error {
	m := &mover{writer: w, ctx: ctx, progress: progress}
	if m.total = w.taken.count() - w.taken.countBelow(used); m.total == 0 {
		return nil
	}
	var moves []move
	err := w.entries(func(slot uint32, block, _ int64) error {
		if int64(slot) < used {
			return nil
		}
		to, _ := w.pick()
		w.take(to)
		moves = append(moves, move{block, slot, uint32(to)})
		if len(moves) < m.batch() {
			return nil
		}
		full := moves
		moves = nil
		return m.move(full)
	})
	if err == nil && len(moves) > 0 {
		err = m.move(moves)
	}
	return errors.Join(err, m.finish())
}

// mover moves blocks, until ctx ends.
type mover struct {
	*writer
	ctx         context.Context
	progress    func(done, total int64) // in bytes; may be nil
	done, total int64                   // blocks
	copied      []move                  // whose entries are still to be written
	synced      chan error              // tells when the copies are durable
}

// batch is how many blocks are moved between two barriers.
func (w *mover) batch() int { return int(max(moveBytes/w.header.slotSize(), 1)) }

// move copies blocks, while those copied before become durable: the disk writes and
// the processors copy at the same time.
func (w *mover) move(moves []move) error {
	if err := w.copyAll(moves); err != nil {
		return err
	}
	if err := w.enter(); err != nil {
		return err
	}
	synced := make(chan error, 1)
	go func() { synced <- w.file.DataSync() }()
	w.copied, w.synced = moves, synced
	return nil
}

// enter has the map lead to the copies once they are durable. No slot is both left
// and filled, so the old ones stay as they are until finish.
func (w *mover) enter() error {
	if w.synced == nil {
		return nil
	}
	moves, err := w.copied, <-w.synced
	w.copied, w.synced = nil, nil
	for _, m := range moves {
		if err != nil {
			break
		}
		err = w.writeEntries(m.block, binary.LittleEndian.AppendUint32(nil, m.to))
	}
	return err
}

// finish makes the last entries durable: nothing leads to the old slots then.
func (w *mover) finish() error {
	if err := w.enter(); err != nil {
		return err
	}
	return w.file.DataSync()
}

// copyAll copies blocks, as many at a time as there are processors.
func (w *mover) copyAll(moves []move) error {
	var next, done atomic.Int64
	var workers sync.WaitGroup
	errs := make([]error, min(runtime.GOMAXPROCS(0), len(moves)))
	for k := range errs {
		workers.Go(func() {
			buf := make([]byte, copyChunk)
			for i := next.Add(1) - 1; i < int64(len(moves)) && errs[k] == nil; i = next.Add(1) - 1 {
				m := moves[i]
				if errs[k] = context.Cause(w.ctx); errs[k] == nil {
					errs[k] = storage.Copy(w.file, w.position(int64(m.to)), w.file, w.position(int64(m.from)), w.header.slotSize(), buf)
					done.Add(1)
				}
			}
		})
	}
	workers.Wait()
	if w.done += done.Load(); w.progress != nil {
		w.progress(w.done*w.header.slotSize(), max(w.total, w.done)*w.header.slotSize())
	}
	return errors.Join(errs...)
}

// trim ends the file behind the used slots, once no entry on disk leads further.
func (w *writer) trim(used int64) error {
	st, err := w.file.Stat()
	if err != nil {
		return err
	}
	end := w.position(used)
	if w.count == used && st.Size == end {
		return nil
	}
	if err := w.writeHeader(used, w.mod); err != nil {
		return err
	}
	if err := w.file.Truncate(end); err != nil {
		return err
	}
	w.size = end
	if err := w.file.Sync(); err != nil {
		return err
	}
	for n := used; n < w.end; n++ {
		w.taken.clear(n)
	}
	w.end = used
	return nil
}
