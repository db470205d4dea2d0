package vdcore

import (
	"context"
	"errors"
	"fmt"

	"vdfs/vdcore/storage"
)

// RepairPlan is what a format would do to an image to mend it. Making one changes
// nothing; whoever carries it out saves what it replaces first, and puts a barrier
// behind every step.
//
// An image is no worse than before after any part of a step, whatever sectors of it
// have survived, and a plan made then goes on: what was done is not in it any more.
type RepairPlan struct {
	Files []storage.File // those Patch.File counts; [0] is OpenArgs.File
	Mends []Mend         // what will be put right; empty when nothing is to be done
	Kept  []Finding      // what is wrong and cannot be mended
	Steps [][]Patch
}

// Mend is one thing that will be put right: Text says what is wrong, Does what will
// be done.
type Mend struct {
	Finding
	Does string
	// Lost are the guest ranges whose content is gone for good, at most MaxDamage of
	// them; LostMore counts the rest.
	Lost     []Range
	LostMore int64
}

// Lose notes a range that is gone, joined with the one before.
func (m *Mend) Lose(off, n int64) {
	if n <= 0 {
		return
	}
	m.Bytes += n
	if k := len(m.Lost); k > 0 && m.Lost[k-1].Off+m.Lost[k-1].Len == off {
		m.Lost[k-1].Len += n
		return
	}
	if len(m.Lost) >= MaxDamage {
		m.LostMore++
		return
	}
	m.Lost = append(m.Lost, Range{off, n})
}

// Range is a part of the disk, in bytes.
type Range struct {
	Off int64 `json:"offset"`
	Len int64 `json:"length"`
}

// Patch is one change of a file: Data written at Pos; or Len bytes copied from From
// to Pos; or, with Resize, the file ending at Pos, zeros where it grows.
type Patch struct {
	File   int
	Pos    int64
	Data   []byte
	From   int64
	Len    int64
	Resize bool
}

// MaxRepair bounds what the Data of one plan take, bytes: tables for 2 TiB of
// grains, or for 256 TiB of blocks.
const MaxRepair = 256 << 20

// ErrTooMuch: a plan would not fit in memory.
var ErrTooMuch = fmt.Errorf("so much of its tables is damaged that it cannot be mended: %w", ErrCorrupt)

// Repair is an image opened to be repaired.
type Repair struct {
	Path string
	Info *Info // what the header or descriptor says
	Plan *RepairPlan

	chain  *Chain
	file   storage.File
	guards guards
}

// OpenRepairFS opens the image at path, without its parents, and plans its repair.
// With o.Write it is locked, and refused, as for writing (ErrInUse); otherwise the
// plan can only be looked at. An image of which too little is sound fails with the
// error that opening it gives.
func OpenRepairFS(ctx context.Context, fsys storage.FS, path string, o Options) (*Repair, error) {
	mode := storage.ReadOnly
	if o.Write {
		mode = storage.ReadWrite
	}
	f, err := fsys.Open(path, mode)
	if err != nil {
		return nil, err
	}
	o.Alone = true
	r := &Repair{Path: path, file: f, chain: &Chain{opts: o, fs: fsys, tables: NewTables()}}
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Repair) open(ctx context.Context) error {
	c := r.chain
	if err := c.guard(r.file, c.opts.Write, &r.guards); err != nil {
		return err
	}
	b, err := backendOf(r.file, c.opts.Format)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Path, err)
	}
	args := OpenArgs{File: r.file, Path: r.Path, FS: belowOf(c.fs, r.file), Tables: c.tables, Shallow: true}
	img, err := b.Open(args)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Path, err)
	}
	r.Info, r.Plan = img.Info(), &RepairPlan{Files: []storage.File{r.file}}
	if b.Repair != nil {
		args.Shallow, args.Write = false, c.opts.Write
		plan, err := b.Repair(ctx, args)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Path, err)
		}
		r.Plan = plan
	}
	return r.claim(img)
}

// claim locks the image's other files, and refuses what must not be written to.
func (r *Repair) claim(img Image) error {
	c := r.chain
	for _, f := range r.Plan.Files[1:] {
		if err := c.guard(f, c.opts.Write, &r.guards); err != nil {
			return err
		}
	}
	l := &Layer{Path: r.Path, Image: planned{img, r.Plan.Files}}
	if err := l.stat(r.file); err != nil {
		return err
	}
	c.layers, c.users = []*Layer{l}, c.lookForUsers(l)
	if err := c.lookForWriters(); err != nil || !c.opts.Write {
		return err
	}
	return errors.Join(c.refuseParent(), c.refuseSavedState())
}

// planned is an image of which only Info was read, with the files its repair needs.
type planned struct {
	Image
	files []storage.File
}

func (p planned) Files() []storage.File { return p.files }

// FS is where the image lies.
func (r *Repair) FS() storage.FS { return r.chain.fs }

// Warnings are sentences the user should see.
func (r *Repair) Warnings() []string { return r.chain.warnings }

// Close closes the image's files and gives up the locks.
func (r *Repair) Close() error {
	var errs []error
	files := []storage.File{r.file}
	if r.Plan != nil {
		files = r.Plan.Files
	}
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	r.guards.release()
	return errors.Join(errs...)
}
