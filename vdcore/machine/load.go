package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// parsers read the files that describe a machine, by extension.
var parsers = map[string]func(*reader) error{
	".vbox": (*reader).vbox,
	".vmx":  (*reader).vmx,
	".ovf":  (*reader).ovf,
}

// archives are the extensions of tar archives with such a file.
var archives = []string{".ova", ".box"}

// lookedFor are the names Load looks for in a folder.
const lookedFor = ".vbox, .vmx, .ovf, .ova or .box"

func extension(path string) string { return strings.ToLower(filepath.Ext(path)) }

func describes(path string) bool { return parsers[extension(path)] != nil }

func isArchive(path string) bool { return slices.Contains(archives, extension(path)) }

// Is reports whether path names a machine rather than an image: a folder, or a file by
// its extension.
func Is(path string) bool {
	if describes(path) || isArchive(path) {
		return true
	}
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// Load reads the machine at path: a file that describes one, an archive, or a folder
// with exactly one of these. search are further folders its images may lie in.
func Load(path string, search []string) (*Machine, error) {
	real, err := storage.Resolve(path)
	if err != nil {
		return nil, err
	}
	m := &Machine{Path: real, File: real, search: search}
	if st, err := os.Stat(real); err != nil {
		return nil, err
	} else if st.IsDir() {
		if m.File, err = inFolder(real); err != nil {
			return nil, err
		}
	}
	host, err := storage.NewOS(m.File, search...)
	if err != nil {
		return nil, err
	}
	return m, errors.Join(m.load(host), host.Close())
}

// load reads what m.File describes, or what the archive of that name has in it.
func (m *Machine) load(host *storage.OS) error {
	dir := filepath.Dir(m.File)
	r := &reader{m, host.Below(dir), dir}
	if isArchive(m.File) {
		a, err := openArchive(r.fs, m.File)
		if err != nil {
			return err
		}
		m.Archive, m.Path, r.fs, r.dir = true, m.File, a, m.File
		if m.File, err = choose(r.dir, slices.DeleteFunc(a.names(), isArchive)); err != nil { // one in another is not opened
			return err
		}
		r.dir = filepath.Dir(m.File)
	}
	return r.read()
}

// read parses m.File.
func (r *reader) read() error {
	r.Name = stem(r.File)
	if err := parsers[extension(r.File)](r); err != nil {
		return err
	}
	return r.bound(len(r.Disks), len(r.Snapshots), 0)
}

// inFolder finds what describes the machine in a folder.
func inFolder(dir string) (string, error) {
	host, err := storage.NewOS(filepath.Join(dir, "x"))
	if err != nil {
		return "", err
	}
	defer host.Close()
	names, err := host.List(dir)
	if err != nil {
		return "", err
	}
	file, err := choose(dir, names)
	if !errors.Is(err, vdcore.ErrFormat) || !slices.Contains(names, boxImage) {
		return file, err
	}
	return "", fmt.Errorf("%s: %w: its disk, %s, is a QCOW image, which vdfs does not read yet", dir, vdcore.ErrUnsupported, boxImage)
}

// boxImage is the disk of a Vagrant box for libvirt; it has no description.
const boxImage = "box.img"

// choose picks the one file of a folder, or an archive, that describes a machine.
func choose(dir string, names []string) (string, error) {
	var found []string
	for _, n := range names {
		if describes(n) || isArchive(n) {
			found = append(found, n)
		}
	}
	switch {
	case len(found) == 1:
		return filepath.Join(dir, found[0]), nil
	case len(found) == 0:
		return "", fmt.Errorf("%s: %w: a folder or archive without a machine; looked for a file called %s; name an image in it instead",
			dir, vdcore.ErrFormat, lookedFor)
	}
	slices.Sort(found)
	return "", fmt.Errorf("%s: %w: it has several machines: %s; name one of them", dir, vdcore.ErrFormat, strings.Join(found, ", "))
}
