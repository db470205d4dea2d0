package imgops

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

const (
	manifestKind   = "vdfs manifest"
	manifestSchema = 1
	// maxManifest bounds the length of a manifest that is read, bytes: a chain of ten
	// thousand files takes a tenth.
	maxManifest = 64 << 20
)

// ErrManifest: something is not as a manifest has it.
var ErrManifest = errors.New("not as in the manifest")

// ErrNoManifest: a file is no manifest.
var ErrNoManifest = errors.New("no manifest of vdfs hash")

// Manifest is what images consisted of at one time. Keys are added without counting the
// schema up; one that changes its meaning counts.
type Manifest struct {
	Kind    string          `json:"kind"`
	Schema  int             `json:"schema"`
	Version string          `json:"vdfs_version"`
	Created time.Time       `json:"created"` // UTC
	Images  []ManifestImage `json:"images"`
}

// ManifestImage is one chain, known by the name of its topmost image.
type ManifestImage struct {
	Image  string          `json:"image"`  // file name without folder
	Layers []ManifestLayer `json:"layers"` // base first
}

// ManifestLayer is one image of a chain.
type ManifestLayer struct {
	Format   string                     `json:"format"`
	Capacity int64                      `json:"capacity"` // bytes
	UUIDs    vdcore.IdentityDescription `json:"uuids"`
	Files    []ManifestFile             `json:"files"`          // the one that names the others first
	Disk     Digests                    `json:"disk,omitempty"` // of the flat disk as this layer shows it
}

// ManifestFile is one file. Size and digests are what it must have; the rest is there
// to be read: a copy has other times and another place.
type ManifestFile struct {
	File     string    `json:"file"` // from the folder of the topmost image
	Size     int64     `json:"size"` // bytes
	Modified time.Time `json:"modified"`
	Changed  time.Time `json:"changed"`
	Device   uint64    `json:"device"`
	Inode    uint64    `json:"inode"`
	Digests  Digests   `json:"digests"`
}

// WriteManifest writes a manifest to a new file, or over one that is there with force,
// in one step.
func WriteManifest(path string, m *Manifest, force bool) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return onHost(path, false, nil, func(fsys storage.FS, path string) error {
		text := append(text, '\n')
		if exists(path) && force {
			return storage.Overwrite(fsys, path, text)
		}
		return storage.NewFile(fsys, path, "", text)
	})
}

// ReadManifest reads one that WriteManifest wrote.
func ReadManifest(path string) (*Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// ParseManifest fails with ErrNoManifest if the text is no manifest, and with
// vdcore.ErrUnsupported if it is one of another version, or by unknown hashes alone.
func ParseManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	switch err := json.Unmarshal(text, m); {
	case len(text) > maxManifest || err == nil && m.Kind != manifestKind:
		return nil, ErrNoManifest
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoManifest, err)
	case m.Schema != manifestSchema:
		return nil, fmt.Errorf("manifest of schema %d, and %d is read: %w", m.Schema, manifestSchema, vdcore.ErrUnsupported)
	}
	for _, i := range m.Images {
		for _, f := range i.files() {
			if err := f.judge(); err != nil {
				return nil, fmt.Errorf("%q: %w", f.File, err)
			}
		}
	}
	return m, nil
}

// judge refuses what no manifest says of a file.
func (f *ManifestFile) judge() error {
	switch {
	case f.File == "" || filepath.IsAbs(f.File) || filepath.Clean(f.File) != f.File || strings.ContainsRune(f.File, 0) || f.Size < 0:
		return fmt.Errorf("%w: no name and size of a file in one", ErrNoManifest)
	case len(f.Digests.known()) == 0:
		return fmt.Errorf("the manifest has no digest of a kind known here: %w", vdcore.ErrUnsupported)
	}
	return nil
}

// known lists the algorithms that can be checked.
func (d Digests) known() (names []string) {
	for _, n := range Algorithms() {
		if d[n] != "" {
			names = append(names, n)
		}
	}
	return names
}

// of finds the chain whose topmost image is at path.
func (m *Manifest) of(path string) (*ManifestImage, error) {
	name := filepath.Base(path)
	for i := range m.Images {
		if m.Images[i].Image == name {
			return &m.Images[i], nil
		}
	}
	return nil, fmt.Errorf("%s: %w, which has no image of this name", path, ErrManifest)
}

// files lists the files of all layers.
func (i *ManifestImage) files() (list []*ManifestFile) {
	for l := range i.Layers {
		for f := range i.Layers[l].Files {
			list = append(list, &i.Layers[l].Files[f])
		}
	}
	return list
}
