package vmdk

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// goldenCase is the part of a corpus case.json the tests go by.
type goldenCase struct {
	Open     string
	Capacity int64
	Layers   []struct {
		File     string
		Format   string
		Capacity int64
		SHA256   string
	}
	UUIDs    map[string]map[string]string
	Geometry map[string]string
	Large    bool
}

// corpora are the folders with cases: our own fixtures, and the whole corpus of
// images when VDFS_CORPUS names it.
func corpora() []string {
	list := []string{"testdata/good"}
	if dir := os.Getenv("VDFS_CORPUS"); dir != "" {
		list = append(list, filepath.Join(dir, "good"))
	}
	return list
}

// TestGolden reads images of real tools and compares every layer's flat content
// with what was written into it.
func TestGolden(t *testing.T) {
	for _, dir := range corpora() {
		cases, err := filepath.Glob(filepath.Join(dir, "vmdk-*", "case.json"))
		if err != nil || len(cases) == 0 {
			t.Fatalf("no cases in %s: %v", dir, err)
		}
		for _, path := range cases {
			t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) { golden(t, path) })
		}
	}
}

func golden(t *testing.T, path string) {
	t.Parallel()
	var c goldenCase
	readJSON(t, path, &c)
	if c.Large && testing.Short() {
		t.Skip("a large image")
	}
	dir := unpack(t, filepath.Dir(path))
	var chain []vdcore.Image
	for _, l := range c.Layers {
		chain = append(chain, openImage(t, filepath.Join(dir, l.File)))
	}
	for k, l := range c.Layers {
		info := chain[k].Info()
		if info.Capacity != l.Capacity || len(info.Damage) > 0 {
			t.Errorf("%s: capacity %d, want %d; damage %v", l.File, info.Capacity, l.Capacity, info.Damage)
		}
		checkIdentity(t, info, c.UUIDs[l.File])
		checkGeometry(t, info, c.Geometry[l.File])
		if got := flatHash(t, chain[k:], l.Capacity); got != l.SHA256 {
			t.Errorf("%s shows %s, want %s", l.File, got, l.SHA256)
		}
	}
}

func checkIdentity(t *testing.T, info *vdcore.Info, want map[string]string) {
	t.Helper()
	got := map[string]string{"CID": fmt.Sprintf("%08x", info.CID), "parentCID": "ffffffff"}
	if info.UUID != [16]byte{} {
		got["image"], got["modification"] = info.UUID.String(), info.ModUUID.String()
	}
	switch p := info.Parent; {
	case p == nil:
	case p.UUID != [16]byte{}:
		got["parent"], got["parent_modification"] = p.UUID.String(), p.ModUUID.String()
	default:
		got["parentCID"] = fmt.Sprintf("%08x", p.CID)
	}
	for k, v := range want {
		if k == "CID" || k == "parentCID" {
			v = fmt.Sprintf("%08s", v)
		}
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
}

// checkGeometry compares with what vbox-img shows.
func checkGeometry(t *testing.T, info *vdcore.Info, want string) {
	t.Helper()
	if want == "" {
		return
	}
	g := info.PCHS
	got := fmt.Sprintf("Geometry PCHS=%d/%d/%d LCHS=%d/%d/%d ", g.Cylinders, g.Heads, g.Sectors,
		info.LCHS.Cylinders, info.LCHS.Heads, info.LCHS.Sectors)
	if !strings.HasPrefix(want, got) {
		t.Errorf("geometry %q, want %q", got, want)
	}
}

// flatHash hashes the disk chain[0] shows, parents behind it.
func flatHash(t *testing.T, chain []vdcore.Image, capacity int64) string {
	t.Helper()
	h := sha256.New()
	if err := flatten(h, chain, 0, capacity); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

var zeros [1 << 20]byte

// flatten writes the bytes of [off, off+n).
func flatten(w io.Writer, chain []vdcore.Image, off, n int64) error {
	if len(chain) == 0 {
		_, err := io.CopyN(w, zeroReader{}, n)
		return err
	}
	img := chain[0]
	extents, err := img.Map(nil, off, n)
	if err != nil {
		return err
	}
	for _, e := range extents {
		switch e.Kind {
		case vdcore.Free:
			err = flatten(w, chain[1:], e.Off, e.Len)
		case vdcore.Zero:
			_, err = io.CopyN(w, zeroReader{}, e.Len)
		case vdcore.Data:
			_, err = io.Copy(w, io.NewSectionReader(img.Files()[e.File], e.Pos, e.Len))
		case vdcore.Packed:
			var unit []byte
			if unit, err = img.(vdcore.Decoder).Decode(e, nil); err == nil {
				_, err = w.Write(unit[e.Skip : e.Skip+e.Len])
			}
		default:
			err = fmt.Errorf("[%d,+%d): %w", e.Off, e.Len, vdcore.ErrLost)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { return copy(p, zeros[:]), nil }

// openPath opens an image the way the chain does.
func openPath(path string, shallow bool, search ...string) (vdcore.Image, error) {
	path, err := storage.Resolve(path)
	if err != nil {
		return nil, err
	}
	host, err := storage.NewOS(path, search...)
	if err != nil {
		return nil, err
	}
	f, err := host.Open(path, storage.ReadOnly)
	if err != nil {
		return nil, err
	}
	img, err := open(vdcore.OpenArgs{
		File: f, Path: path, FS: host.Below(filepath.Dir(path)), Tables: vdcore.NewTables(), Shallow: shallow,
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return img, nil
}

func openImage(t *testing.T, path string, search ...string) vdcore.Image {
	t.Helper()
	img, err := openPath(path, false, search...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return img
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// unpack extracts a case into a fresh folder, holes left out.
func unpack(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "image.tar.gz"))
	if errors.Is(err, os.ErrNotExist) {
		return dir
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return to
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse {
			writeSparse(t, filepath.Join(to, filepath.FromSlash(h.Name)), r, h.Size)
		}
	}
}

// writeSparse writes a file, seeking over zeros.
func writeSparse(t *testing.T, path string, r io.Reader, size int64) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for off := int64(0); off < size; {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), size-off)])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WriteAt(buf[:n], off); err != nil {
				t.Fatal(err)
			}
		}
		off += int64(n)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}
