package imgops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"vdfs/vdcore"
)

const (
	copyChunk = 1 << 20 // bytes read at a time
	zeroUnit  = 4096    // shortest run of zeros left out of a sparse file, bytes
)

// CopyFile writes the disk to a new sparse file: what reads as zeros becomes a
// hole. Where the file system can, blocks are shared with the image files instead
// of copied; nothing is read then, and zeros stored in such blocks stay stored. An
// existing file is never touched (fs.ErrExist); after an error, or when ctx ends,
// the half-made file is removed.
func CopyFile(ctx context.Context, d *vdcore.Disk, path string, progress Progress) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := f.Truncate(d.Capacity()); err != nil {
		return err
	}
	return copySparse(ctx, d, f, progress)
}

// copySparse shares what it can with out and copies of the rest what is not zeros,
// several chunks at a time.
func copySparse(ctx context.Context, d *vdcore.Disk, out *os.File, progress Progress) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chunks := make(chan chunk)
	count := &counter{total: d.Capacity(), report: progress}
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			buf := make([]byte, copyChunk)
			for c := range chunks {
				if ctx.Err() != nil {
					continue // drain
				}
				if err := copyChunkTo(d, out, buf[:c.n], c.off); err != nil {
					cancel(err)
				}
				count.add(c.n)
			}
		})
	}
	err := cut(ctx, d, newCloner(out), chunks, count)
	close(chunks)
	workers.Wait()
	return errors.Join(err, context.Cause(ctx))
}

type chunk struct{ off, n int64 }

// cut walks the disk, clones what can be cloned and sends the chunks that may hold
// other data.
func cut(ctx context.Context, d *vdcore.Disk, clone *cloner, chunks chan<- chunk, count *counter) error {
	return d.Each(0, d.Capacity(), func(f vdcore.Flat) bool {
		if ctx.Err() != nil {
			return false
		}
		if f.Kind == vdcore.Zero {
			count.add(f.Len)
			return true
		}
		from, to := clone.share(d, f)
		count.add(to - from)
		return send(ctx, chunks, f.Off, from) && send(ctx, chunks, to, f.End())
	})
}

// send cuts [off, end) into chunks; it returns false when ctx ended.
func send(ctx context.Context, chunks chan<- chunk, off, end int64) bool {
	for off < end {
		n := min(end, (off/copyChunk+1)*copyChunk) - off
		select {
		case chunks <- chunk{off, n}:
		case <-ctx.Done():
			return false
		}
		off += n
	}
	return true
}

// copyChunkTo copies one chunk, leaving out runs of zeros.
func copyChunkTo(d *vdcore.Disk, w io.WriterAt, buf []byte, off int64) error {
	if _, err := d.ReadAt(buf, off); err != nil && err != io.EOF {
		return err
	}
	for start := 0; start < len(buf); {
		end, zero := zeroRun(buf, start)
		if !zero {
			if _, err := w.WriteAt(buf[start:end], off+int64(start)); err != nil {
				return err
			}
		}
		start = end
	}
	return nil
}

var zeros [zeroUnit]byte

// zeroRun returns where the run of zero, or of nonzero, units from start ends.
func zeroRun(buf []byte, start int) (end int, zero bool) {
	unit := func(at int) bool {
		u := buf[at:min(at+zeroUnit, len(buf))]
		return bytes.Equal(u, zeros[:len(u)])
	}
	zero = unit(start)
	for end = start + zeroUnit; end < len(buf) && unit(end) == zero; end += zeroUnit {
	}
	return min(end, len(buf)), zero
}

// CopyTo writes the whole disk to a stream, zeros included. The next chunk is
// read while one is written.
func CopyTo(ctx context.Context, d *vdcore.Disk, w io.Writer, progress Progress) error {
	ctx, cancel := context.WithCancelCause(ctx)
	full, free := make(chan []byte), make(chan []byte, 2)
	for range cap(free) {
		free <- make([]byte, 2*copyChunk)
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(full)
		if err := readAll(ctx, d, free, full); err != nil {
			cancel(err)
		}
	})
	count := &counter{total: d.Capacity(), report: progress}
	for buf := range full {
		if _, err := w.Write(buf); err != nil {
			cancel(fmt.Errorf("write: %w", err))
			break
		}
		count.add(int64(len(buf)))
		free <- buf
	}
	err := context.Cause(ctx)
	cancel(nil)
	reader.Wait()
	return err
}

// readAll sends the disk in order, in buffers taken from free.
func readAll(ctx context.Context, d *vdcore.Disk, free <-chan []byte, full chan<- []byte) error {
	for off := int64(0); off < d.Capacity(); {
		var buf []byte
		select {
		case buf = <-free:
		case <-ctx.Done():
			return nil
		}
		buf = buf[:min(int64(cap(buf)), d.Capacity()-off)]
		if _, err := d.ReadAt(buf, off); err != nil && err != io.EOF {
			return err
		}
		select {
		case full <- buf:
		case <-ctx.Done():
			return nil
		}
		off += int64(len(buf))
	}
	return nil
}

// counter adds up what several goroutines did.
type counter struct {
	mu          sync.Mutex
	done, total int64
	report      Progress
}

func (c *counter) add(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += n
	if c.report != nil {
		c.report(c.done, c.total)
	}
}
