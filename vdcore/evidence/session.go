package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Beginning is what the first line of a mount says beside who and when.
type Beginning struct {
	Arguments  []string `json:"arguments"`
	Version    string   `json:"vdfs_version"`
	Mountpoint string   `json:"mountpoint"`
	Mode       string   `json:"mode"`               // ro, rw or overlay
	Manifest   string   `json:"manifest,omitempty"` // the images are compared with
}

// Image is a chain in use.
type Image struct {
	Image    string   `json:"image"`
	Layers   []Layer  `json:"layers"` // base first
	Warnings []string `json:"warnings"`
}

// Layer is an image of a chain.
type Layer struct {
	Format string                     `json:"format"`
	UUIDs  vdcore.IdentityDescription `json:"uuids"`
	Files  []File                     `json:"files"`
}

// File is a file of an image as it was when it was opened.
type File struct {
	Path     string    `json:"path"`
	Size     int64     `json:"size"` // bytes
	Modified time.Time `json:"modified"`
	Changed  time.Time `json:"changed"`
	Device   uint64    `json:"device"`
	Inode    uint64    `json:"inode"`
}

// Describe lists what a chain consists of.
func Describe(c *vdcore.Chain) (Image, error) {
	d := c.Describe()
	i := Image{Image: d.Image, Warnings: d.Warnings}
	for n, l := range c.Layers() {
		layer := Layer{Format: d.Layers[n].Format, UUIDs: d.Layers[n].UUIDs}
		for _, f := range l.Image.Files() {
			f = storage.Whole(f)
			st, err := storage.Opened(f)
			if err != nil {
				return i, err
			}
			layer.Files = append(layer.Files, File{f.Path(), st.Size, st.Modified.UTC(), st.Changed.UTC(), st.ID.Dev, st.ID.Ino})
		}
		i.Layers = append(i.Layers, layer)
	}
	return i, nil
}

// Begin writes the first line of a mount, and returns when it is on disk.
func (a *Audit) Begin(b Beginning) error {
	if a == nil {
		return nil
	}
	folder, _ := os.Getwd() // "" is not known
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write("begin", struct {
		Who Who `json:"who"`
		Beginning
		PID    int    `json:"pid"`
		Folder string `json:"folder,omitempty"` // working folder, which arguments are relative to
		Binary string `json:"binary_sha256,omitempty"`
		Kernel string `json:"kernel,omitempty"`
	}{whoAmI(), b, os.Getpid(), folder, ownHash(), kernel()}, true)
	return a.broken
}

// Images notes what the mount consists of, and returns when that is on disk.
func (a *Audit) Images(list []Image) error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write("images", struct {
		Images []Image `json:"images"`
	}{list}, true)
	return a.broken
}

// ownHash is the SHA-256 of the program that runs.
func ownHash() string {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// Verified notes that the images were compared with the manifest, and when: "begin" or
// "end"; err is what differs, nil for nothing.
func (a *Audit) Verified(when string, err error) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write("verified", struct {
		When  string `json:"when"`
		OK    bool   `json:"ok"`
		Error string `json:"error,omitempty"`
	}{when, err == nil, text(err)}, true)
}

// Ending is what the last line of a mount says.
type Ending struct {
	How      string    // what ended it
	ExitCode int       // of the process
	Err      error     // nil for a good end
	Written  []Written // by disk; nothing for a read-only mount
	Changes  []Change
}

// Written is how much of a disk was written, bytes.
type Written struct {
	File      string `json:"file"`
	Written   int64  `json:"written"`
	Discarded int64  `json:"discarded"`
}

// End writes the last line, of a mount that did not come about too, and closes the file.
// It returns the error that made the file incomplete.
func (a *Audit) End(e Ending) error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write("end", struct {
		How      string           `json:"how"`
		Asked    *process         `json:"asked_by,omitempty"` // the last one to ask for it by vdfs umount
		ExitCode int              `json:"exit_code"`
		Error    string           `json:"error,omitempty"`
		Opens    map[string]int64 `json:"opens"`    // by file
		Unlogged int64            `json:"unlogged"` // of them
		Errors   int              `json:"errors"`
		Written  []Written        `json:"written,omitempty"`
		Changes  []Change         `json:"changed"`
	}{e.How, a.asked, e.ExitCode, text(e.Err), a.totals, a.missed, a.errors, e.Written, append([]Change{}, e.Changes...)}, true)
	if err := a.file.Close(); err != nil && a.broken == nil {
		a.broken = err
	}
	return a.broken
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
