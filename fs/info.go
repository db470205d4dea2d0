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
	Disk         string    `json:"disk"`      // file name of the disk
	Snapshots    []string  `json:"snapshots"` // files of the lower states, base first
	Path         PathTaken `json:"path"`
	Writable     bool      `json:"writable"` // the disk; everything else then tells how it was when mounted

	vdcore.Description

	// Unreadable ranges of the disk, for a chain opened although incomplete, and
	// what they read as: "eio" or "zero".
	Unreadable     []vdcore.DamageDescription `json:"unreadable,omitempty"`
	UnreadableMore int64                      `json:"unreadable_more,omitempty"`
	Fill           string                     `json:"fill,omitempty"`
}

// PathTaken is how the bytes reach the reader, and why so.
type PathTaken struct {
	Taken  string `json:"taken"` // "requests"
	Reason string `json:"reason"`
}

// infoFile is info.json. Its text is made when it is first looked at: the ranges
// an incomplete chain lost are found by walking its map. That of a chain that is
// written is made at once, before a first write changes what it tells.
type infoFile struct {
	chain     *vdcore.Chain
	version   string
	since     time.Time
	disk      string
	snapshots []string
	text      func() []byte
}

func newInfoFile(c *vdcore.Chain, o *Options, disk string) *infoFile {
	f := &infoFile{chain: c, version: o.Version, since: time.Now(), disk: path.Base(disk), snapshots: []string{}}
	f.text = sync.OnceValue(f.render)
	return f
}

func (f *infoFile) render() []byte {
	info := Info{
		Schema: infoSchema, Version: f.version, PID: os.Getpid(), MountedSince: f.since,
		Disk: f.disk, Snapshots: f.snapshots, Description: f.chain.Describe(),
		Path: PathTaken{"requests", "the daemon answers every read"}, Writable: f.chain.Top().Writable(),
	}
	if info.Incomplete {
		f.addUnreadable(&info)
	}
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil { // cannot be: no maps, no interfaces, no floats
		text = []byte("{}")
	}
	return append(text, '\n')
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
func (f *infoFile) direct() bool     { return false }

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
