package vdtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed testdata
var testdata embed.FS

// Case is a chain made by real tools (VirtualBox, QEMU), with the content they
// show for each layer; golden.json records it.
type Case struct {
	Archive string `json:"archive"`
	Layers  []struct {
		File     string `json:"file"`
		Capacity int64  `json:"capacity"`
		SHA256   string `json:"sha256"`
	} `json:"layers"` // topmost first
}

// Name is the case's, for subtests.
func (c Case) Name() string {
	return strings.TrimSuffix(c.Archive, ".tar.gz") + "/" + filepath.Base(c.Layers[0].File)
}

// Cases lists the golden chains.
func Cases(t testing.TB) []Case {
	b, err := testdata.ReadFile("testdata/golden.json")
	var cases []Case
	if err = errors.Join(err, json.Unmarshal(b, &cases)); err != nil || len(cases) == 0 {
		t.Fatalf("golden.json: %v", err)
	}
	return cases
}

// Unpack extracts an archive into dir, with holes where the files have zeros.
func Unpack(t testing.TB, archive, dir string) {
	t.Helper()
	if err := untar(archive, func(name string, size int64, r io.Reader) error {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		f, err := os.Create(p)
		if err != nil {
			return err
		}
		defer f.Close()
		return errors.Join(writeSparse(f, r), f.Truncate(size))
	}); err != nil {
		t.Fatalf("%s: %v", archive, err)
	}
}

// untar calls fn for each regular file of an archive.
func untar(archive string, fn func(name string, size int64, r io.Reader) error) error {
	f, err := testdata.Open("testdata/" + archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse {
			continue
		}
		if !fs.ValidPath(filepath.Clean(h.Name)) {
			return fs.ErrInvalid
		}
		if err := fn(filepath.Clean(h.Name), h.Size, tr); err != nil {
			return err
		}
	}
}

func writeSparse(f *os.File, r io.Reader) error {
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := io.ReadFull(r, buf)
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, werr := f.WriteAt(buf[:n], off); werr != nil {
				return werr
			}
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// conformLimit keeps the suite, which holds disks in memory, to small ones.
const conformLimit = 64 << 20

// Bases returns the golden base images of a backend that fit in memory, for
// Conform.
func Bases(t testing.TB, extension string) map[string]Golden {
	found := map[string]Golden{}
	for _, c := range Cases(t) {
		base := c.Layers[len(c.Layers)-1]
		if filepath.Ext(base.File) != extension || base.Capacity > conformLimit {
			continue
		}
		g := Golden{Files: map[string][]byte{}, Open: "/" + base.File, Capacity: base.Capacity, SHA256: base.SHA256}
		if err := untar(c.Archive, func(name string, _ int64, r io.Reader) error {
			b, err := io.ReadAll(r)
			g.Files["/"+name] = b
			return err
		}); err != nil {
			t.Fatalf("%s: %v", c.Archive, err)
		}
		found[c.Name()] = g
	}
	if len(found) == 0 {
		t.Fatalf("no golden image ends in %s", extension)
	}
	return found
}
