package crashfs

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Kinds of operations that change something.
const (
	OpCreate   = "create"
	OpRemove   = "remove"
	OpRename   = "rename"
	OpReplace  = "replace"
	OpLink     = "link"
	OpSyncDir  = "syncdir"
	OpWrite    = "write"
	OpTruncate = "truncate"
	OpPunch    = "punch"
	OpAllocate = "allocate"
	OpSync     = "sync"
	OpDataSync = "datasync"
)

// Op is one operation that changes something. They are counted from 1.
type Op struct {
	N        int
	Kind     string
	Path     string
	Off, Len int64 // Off is the new size, for a truncate
	Note     string
}

func (o Op) String() string {
	s := fmt.Sprintf("%d: %s %s", o.N, o.Kind, o.Path)
	switch o.Kind {
	case OpWrite, OpPunch, OpAllocate:
		s += fmt.Sprintf(" [%d,+%d)", o.Off, o.Len)
	case OpTruncate:
		s += fmt.Sprintf(" to %d", o.Off)
	}
	return s + o.Note
}

// CutAt has the power go at operation n: it and all later ones fail with ErrCut.
// Operation n itself has happened, or not, or in part; later ones have not. Reads
// go on and see operation n. 0 takes the cut back, as far as it has not happened.
func (f *FS) CutAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt = n
}

// Cut reports whether the power has gone.
func (f *FS) Cut() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cutAt > 0 && len(f.ops) >= f.cutAt
}

// Ops is how many operations there were, the one that was cut included.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ops)
}

// Log lists the operations, the one that was cut last.
func (f *FS) Log() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ops)
}

// Trace is the end of the log, one operation a line, for failure messages.
func (f *FS) Trace(last int) string {
	log := f.Log()
	var b strings.Builder
	for _, o := range log[max(0, len(log)-last):] {
		fmt.Fprintln(&b, "   ", o)
	}
	return b.String()
}

// mutate counts an operation and does it, unless the power has gone. The operation
// at which it goes is done too, but fails: what it did is pending like everything
// since the last sync. The caller makes durable what is to be so only after
// mutate succeeded. d.mu is held.
func (d *disk) mutate(o Op, do func()) error {
	gone := &fs.PathError{Op: o.Kind, Path: o.Path, Err: ErrCut}
	if d.cutAt > 0 && len(d.ops) >= d.cutAt {
		return gone
	}
	o.N = len(d.ops) + 1
	cut := o.N == d.cutAt
	if cut {
		o.Note += " (cut here)"
	}
	d.ops = append(d.ops, o)
	do()
	if cut {
		return gone
	}
	return nil
}
