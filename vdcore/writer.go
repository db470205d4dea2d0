package vdcore

// Place is where bytes lie: in which of an image's files, and at which position.
type Place struct {
	File int // index into Image.Files
	Pos  int64
}

// Unit is a guest range that is allocated as one: a block or a grain, clipped to
// the capacity.
type Unit struct {
	Off, Len int64
	// Fixed units (of flat files) have their place for good. They are written and
	// punched in place, and the methods below are not called for them.
	Fixed bool
	// Place is where a fixed unit lies; of any other its File is where its table and
	// its place are.
	Place Place
}

// End is the first guest offset behind the unit.
func (u Unit) End() int64 { return u.Off + u.Len }

// Change is what the map shall say of one unit: Data at a place, Zero or Free.
type Change struct {
	Unit  Unit
	Kind  Kind
	Place Place // for Data
}

// Writer is an image opened with OpenArgs.Write. A format only keeps its metadata;
// the chain moves the data, fills what a guest did not write from the parents, and
// puts the barriers between (see doc.go, Writing).
//
// The chain calls one method at a time, Map included, while guests write into
// reserved places and overwrite what is allocated. Info and Files may be called at
// any time, and Info stays what it was at open.
//
// No method but Begin and Finish waits for the disk. An error of Reserve, Prepare
// or Publish must leave the image usable: the chain tries again.
type Writer interface {
	Image
	// Unit returns the unit that holds a guest offset.
	Unit(off int64) Unit
	// Can reports whether Publish can make a unit kind, which is Zero or Free.
	Can(kind Kind) bool
	// Begin is called once before the first change of anything. It prepares the
	// image for being written (what an earlier crash left behind, a mark that the
	// image is open), gives it a new identity when renew is set (the modification
	// UUID or the CID, so that children of the old content are found out), and
	// makes that durable.
	Begin(renew bool) error
	// Reserve finds a place for a unit. Nothing on disk leads there, and it reads as
	// zeros, as far as the file reaches; the chain makes the file as long as that,
	// and writes into it at once.
	Reserve(u Unit) (Place, error)
	// Release takes back a place no table leads to, neither in memory nor on disk.
	// The chain has made the unit, not what a block has around it, read as zeros.
	Release(p Place)
	// Prepare writes what must be on disk before the changes' entries are: counts of
	// blocks, empty tables, what the file lacks behind a place. It never makes the
	// file shorter than any place that is reserved. A barrier follows. What it leaves behind when nothing follows is at most a leak.
	Prepare(changes []Change) error
	// Publish writes the entries, on disk and for Map. Each entry must be one write
	// inside one sector, or several of which every subset is sound.
	Publish(changes []Change) error
	// Finish is called before Close if Begin was, when all is published and durable
	// and nobody reads or writes any more.
	// It leaves the image as its own tools would: no holes where they know none,
	// no mark of being open. A crash in it leaks at most.
	Finish() error
}
