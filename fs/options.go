package fs

import (
	"errors"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/rs/zerolog"

	"vdfs/vdcore"
	"vdfs/vdcore/evidence"
)

// Source is one chain to show.
type Source struct {
	Name  string // of its folder; "" takes the image's file name without extension
	Chain *vdcore.Chain
	// Branches lead to snapshots of a machine that Chain was not made from. Those of
	// their layers that have a snapshot's name are shown beside Chain's lower states.
	Branches []*vdcore.Chain
	Watch    *evidence.Watch // tells info.json what changed; nil for nothing
}

// Chains are all chains of a source.
func (s Source) Chains() []*vdcore.Chain { return append([]*vdcore.Chain{s.Chain}, s.Branches...) }

// Close closes them.
func (s Source) Close() error {
	var errs []error
	for _, c := range s.Chains() {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Options say what to mount where. Mount takes the chains over: they are closed
// when the mount has ended, and when Mount fails.
type Options struct {
	Mountpoint string // a folder, or a regular file for exactly one disk
	Disks      []Source
	AllowOther bool    // other users may look in, as far as the modes let them
	AllowRoot  bool    // root may look in beside the user who mounts
	UID, GID   *uint32 // owner of all files; nil is the mounting user
	Umask      uint32  // taken off the modes
	Sync       bool    // writes return when they are on disk
	FsName     string  // first column of the mount table; "" names the image
	Log        zerolog.Logger
	Version    string // shown in info.json
	Debug      bool   // log every request

	Audit *evidence.Audit // notes opens and errors; nil for nothing
	// Ending, unless nil, is called when the mount is gone and the chains are not closed
	// yet, so that what it looks at is locked still. Wait returns its error.
	Ending func() error
	// EndsLong tells vdfs umount that Ending takes its time.
	EndsLong bool

	// KernelReads says whether disks nobody writes to may be read past this process.
	KernelReads KernelReads

	find shortcut // instead of the kernel's own, in tests
}

// Subtype makes the file system type "fuse.vdfs".
const Subtype = "vdfs"

// FSType is the type shown in the mount table.
const FSType = "fuse." + Subtype

const (
	// cacheTime is how long the kernel may keep attributes, names, and names
	// that are not there. None of them changes while mounted, but for the attributes
	// of a disk that is written and of info.json. With go-fuse's default
	// of a second or less, every READ is preceded by a GETATTR: half the speed.
	cacheTime = time.Hour

	// writableAttrTime is 0: the kernel asks whenever somebody looks at a disk that
	// is written. It forgets size, blocks and times by itself when it sends a write,
	// but units fill up seconds later, by the core's own commits. Reads do not ask.
	writableAttrTime = 0

	// maxTransfer bounds one request. Larger is faster, but a reply that is
	// spliced needs a pipe of its size plus a page, and pipes end at 1 MiB
	// (pipe-max-size) and double: 512 KiB is the most that fits.
	maxTransfer = 512 << 10

	// maxWriteTransfer is for mounts that are written, whose topmost disk is never
	// spliced: sequential writes gain a quarter. It is the kernel's own limit.
	maxWriteTransfer = 1 << 20

	// maxBackground is how many read-ahead and asynchronous requests may be on
	// their way; the default of 12 starves a deep queue.
	maxBackground = 64

	// readAhead is written to the mount's backing device. The kernel starts every
	// FUSE mount at 128 KiB, whatever is asked for at INIT. Measured: sequential reads
	// gain a quarter at 512 and nothing beyond, while whoever reads a sparse disk from
	// one piece of data to the next is given more zeros behind each of them.
	readAheadKiB = 512

	// spliceMin is the smallest reply that is spliced. At 64 KiB the system calls
	// around splice cost what copying the bytes does; at 512 KiB they save a sixth.
	spliceMin = 64 << 10

	// extraCaps: asynchronous direct I/O runs in parallel instead of one request
	// after the other; and files opened for it can still be mapped.
	extraCaps = fuse.CAP_ASYNC_DIO | fuse.CAP_DIRECT_IO_ALLOW_MMAP

	// writableCaps: without it each write is preceded by a GETXATTR, for a
	// capability that writing would have to take away. No file here has one, nor
	// set-user-ID modes, so there is nothing to do for it.
	writableCaps = fuse.CAP_HANDLE_KILLPRIV_V2

	// openFlags: what the kernel has cached of a file stays valid from one open
	// to the next, and closing needs no FLUSH, there is nothing to write. A disk that
	// is written changes through this kernel only.
	openFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH

	// writeFlags are openFlags without FOPEN_NOFLUSH: it would have close leave what
	// was changed through a mapping in the kernel, and keep quiet if writing that
	// fails.
	//
	// There is no FOPEN_PARALLEL_DIRECT_WRITES. The kernel honours it together with
	// FOPEN_DIRECT_IO only, and of files open in that way and through the cache at
	// once, which loop devices and backups bring about, kernels before 6.12 could
	// hang or keep pages of old content. It would help threads that each wait for
	// their own O_DIRECT write (four got 3 times the IOPS); asynchronous ones
	// (io_uring, libaio, loop devices) run in parallel without it.
	writeFlags = fuse.FOPEN_KEEP_CACHE

	// writeOnlyFlags are for files opened to be written and not read: past the page
	// cache the bytes are copied twice instead of three times on their way into the
	// image's own, which is half as fast again. The kernel drops its pages of what is
	// written so, from protocol writeOnlyMinor (Linux 6.6) on; before, whoever has
	// the file open beside would go on reading them. FOPEN_KEEP_CACHE has a meaning all
	// the same: without it the kernel drops all pages at open, also those of a write
	// that is on its way, and who reads them in between keeps the old bytes.
	writeOnlyFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_KEEP_CACHE
	writeOnlyMinor = 39

	// directFlags: requests come as they were made, and a short reply is a short
	// read and not the end of the file.
	directFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH

	// stackDepth is how deep file systems may lie on top of each other: this one, a
	// map, and what the images lie on. It is the kernel's limit.
	stackDepth = 2

	// passFlags: the kernel reads the file it was given. It fails opens with other
	// flags beside these.
	passFlags = fuse.FOPEN_PASSTHROUGH | fuse.FOPEN_NOFLUSH

	// blockSize is the unit of statfs, and st_blksize.
	blockSize = 4096
)
