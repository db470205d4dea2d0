package fs

import (
	"encoding/json"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vdfs/vdcore"
	"vdfs/vdcore/contents"
	"vdfs/vdcore/evidence"
)

// infoSchema is the version of info.json. Keys are added without counting up,
// a key that changes its meaning or goes counts.
const infoSchema = 1

// Info is the content of info.json.
type Info struct {
	Schema       int       `json:"schema"`
	Version      string    `json:"vdfs_version"`
	PID          int       `json:"pid"`
	MountedSince time.Time `json:"mounted_since"`
	Disk         string    `json:"disk"`             // file name of the disk
	Snapshots    []string  `json:"snapshots"`        // files of the lower states, base first
	States       []State   `json:"states,omitempty"` // those that snapshots of a machine name
	Writable     bool      `json:"writable"`         // the disk; everything else then tells how it was when mounted

	vdcore.Description

	// Contents are the partitions of the disk, or what it holds without a table. The file
	// of partition N is pN.raw.
	Contents contents.Contents `json:"contents"`

	// Unreadable ranges of the disk, for a chain opened although incomplete, and
	// what they read as: "eio" or "zero".
	Unreadable     []vdcore.DamageDescription `json:"unreadable,omitempty"`
	UnreadableMore int64                      `json:"unreadable_more,omitempty"`
	Fill           string                     `json:"fill,omitempty"`

	// What follows comes last, as it is all that changes: what was read before stays
	// right.
	Path PathTaken `json:"path"`
	// Changed are the files of the image that are not any more what they were when they
	// were opened.
	Changed []evidence.Change `json:"changed"`
}

// infoFile is info.json. What it tells is collected when it is first looked at: the
// ranges an incomplete chain lost are found by walking its map. That of a chain that
// is written is collected at once, before a first write changes it. Only the path
// taken changes, and what is known of changed files.
type infoFile struct {
	chain     *vdcore.Chain
	version   string
	since     time.Time
	disk      string
	mtime     time.Time // of the disk
	snapshots []string
	states    []State
	route     *route          // nil for a disk that is written
	watch     *evidence.Watch // nil in tests
	info      func() Info

	mu    sync.Mutex // guards the text made last
	taken PathTaken
	made  []byte
}

func newInfoFile(s Source, o *Options, disk *node) *infoFile {
	f := &infoFile{chain: s.Chain, watch: s.Watch, version: o.Version, since: time.Now(), disk: path.Base(disk.path), mtime: disk.mtime, snapshots: []string{}, route: disk.route}
	f.info = sync.OnceValue(f.collect)
	return f
}

func (f *infoFile) collect() Info {
	info := Info{
		Schema: infoSchema, Version: f.version, PID: os.Getpid(), MountedSince: f.since,
		Disk: f.disk, Snapshots: f.snapshots, States: f.states, Description: f.chain.Describe(),
		Writable: f.chain.Top().Writable(),
		Contents: contents.Read(f.chain.Top(), f.chain.Top().Capacity()),
	}
	if info.Incomplete {
		f.addUnreadable(&info)
	}
	return info
}

// look finds out what there is to tell now.
func (f *infoFile) look() {
	if f.route != nil {
		f.route.decide(false)
	}
	f.watch.Look()
}

// text is the file as it is now.
func (f *infoFile) text() []byte {
	taken, changed := f.route.path(), f.watch.Changes()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made != nil && taken == f.taken && len(changed) == 0 {
		return f.made
	}
	info := f.info()
	info.Path, info.Changed = taken, changed
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil { // cannot be: no maps, no interfaces, no floats
		text = []byte("{}")
	}
	f.taken, f.made = taken, append(text, '\n')
	return f.made
}

func (f *infoFile) addUnreadable(info *Info) {
	info.Fill = "eio"
	if f.chain.Options().FillZero {
		info.Fill = "zero"
	}
	var err error
	if info.Unreadable, info.UnreadableMore, err = f.chain.Top().Unreadable(); err != nil {
		info.Warnings = append(info.Warnings, "the list of unreadable ranges is not complete: "+err.Error())
	}
}

func (f *infoFile) size() int64      { return int64(len(f.text())) }
func (f *infoFile) allocated() int64 { return f.size() }
func (f *infoFile) direct() bool     { return true } // its size may change

func (f *infoFile) read(buf []byte, off int64) (fuse.ReadResult, error) {
	text := f.text()
	if off >= int64(len(text)) {
		return noBytes, nil
	}
	return newBytes(buf[:copy(buf, text[off:])]), nil
}

// seek finds data up to the end, where every file has a hole.
func (f *infoFile) seek(off int64, hole bool) (int64, error) {
	switch {
	case off >= f.size():
		return 0, syscall.ENXIO
	case hole:
		return f.size(), nil
	}
	return off, nil
}
