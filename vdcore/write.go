package vdcore

import "fmt"

// Writable reports whether WriteAt and the other changes below are possible: the
// disk is what the topmost image of a chain opened with Options.Write shows.
func (d *Disk) Writable() bool { return false }

// WriteAt implements io.WriterAt. A write that reaches past the end of the disk is
// cut there and fails with ErrNoSpace. Once it returns, every reader sees it; it
// is durable after the next Sync.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) { return 0, d.refuse() }

// Discard makes [off, off+n) read as zeros and gives up the space of whole units.
func (d *Disk) Discard(off, n int64) error { return d.refuse() }

// Allocate makes sure that writing to [off, off+n) will not fail for want of space.
func (d *Disk) Allocate(off, n int64) error { return d.refuse() }

// Sync makes everything written so far durable. An error means that some of it is
// not; after a failed barrier that stays so, and every later change fails too.
func (d *Disk) Sync() error { return d.refuse() }

func (d *Disk) refuse() error { return fmt.Errorf("%s: %w", d.Layer().Path, ErrReadOnly) }
