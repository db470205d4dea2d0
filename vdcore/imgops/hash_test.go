package imgops

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	_ "vdfs/formats/raw"
	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// ragged writes a file of an odd size with holes in it, and returns its content.
func ragged(t *testing.T, path string) []byte {
	t.Helper()
	content := make([]byte, 40<<20+777)
	random := rand.NewChaCha8([32]byte{1})
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int{{0, 1}, {3<<20 + 5, 700000}, {39 << 20, 1<<20 + 777}} {
		random.Read(content[r[0] : r[0]+r[1]])
		if _, werr := f.WriteAt(content[r[0]:r[0]+r[1]], int64(r[0])); werr != nil {
			t.Fatal(werr)
		}
	}
	if err := errors.Join(f.Truncate(int64(len(content))), f.Close()); err != nil {
		t.Fatal(err)
	}
	return content
}

func openRaw(t *testing.T, path string) *vdcore.Chain {
	t.Helper()
	c, err := vdcore.Open(path, vdcore.Options{Format: "raw"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestHash: files and disks have the hashes the standard library finds over all of their
// bytes at once, holes and odd ends included, and progress adds up.
func TestHash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	content := ragged(t, path)
	var done, total int64
	m, err := Hash(t.Context(), []*vdcore.Chain{openRaw(t, path)}, HashOptions{
		Algorithms: []string{"sha512", "sha256"}, Progress: func(d, n int64) { done, total = d, n },
	})
	if err != nil {
		t.Fatal(err)
	}
	short, long := sha256.Sum256(content), sha512.Sum512(content)
	l := m.Images[0].Layers[0]
	for what, d := range map[string]Digests{"file": l.Files[0].Digests, "disk": l.Disk} {
		if d["sha256"] != hex.EncodeToString(short[:]) || d["sha512"] != hex.EncodeToString(long[:]) || len(d) != 2 {
			t.Errorf("%s: %v", what, d)
		}
	}
	if want := int64(2 * len(content)); done != want || total != want {
		t.Errorf("%d of %d bytes, want %d", done, total, want)
	}
}

// TestHashChanged: a file that changes while its hash is made has none.
func TestHashChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	ragged(t, path)
	c := openRaw(t, path)
	touched := false
	_, err := Hash(t.Context(), []*vdcore.Chain{c}, HashOptions{Algorithms: []string{"md5"}, Progress: func(int64, int64) {
		if !touched {
			touched = true
			if err := os.Chmod(path, 0o600); err != nil {
				t.Error(err)
			}
		}
	}})
	if !errors.Is(err, storage.ErrChanged) {
		t.Errorf("%v, want %v", err, storage.ErrChanged)
	}
}

// TestHashStops: the end of the context is the end of hashing, whatever is left.
func TestHashStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Hash(ctx, []*vdcore.Chain{openRaw(t, path)}, HashOptions{Algorithms: []string{"md5"}, Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

// TestVerifyBetween: a file that is replaced by an equal one between being verified and
// being opened is found out.
func TestVerifyBetween(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	content := ragged(t, path)
	m, err := Hash(t.Context(), []*vdcore.Chain{openRaw(t, path)}, HashOptions{Algorithms: []string{"sha1"}, Disks: NoDisk})
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(t.Context(), m, path, vdcore.Options{}, nil)
	if err != nil || v.Err() != nil {
		t.Fatal(err, v.Err())
	}
	if err := v.Opened(openRaw(t, path).Layers()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path+"2", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"2", path); err != nil {
		t.Fatal(err)
	}
	if err := v.Opened(openRaw(t, path).Layers()); !errors.Is(err, storage.ErrChanged) {
		t.Errorf("%v, want %v", err, storage.ErrChanged)
	}
}

// FuzzManifest: no text makes trouble, and no name in it leaves the folders of the image.
func FuzzManifest(f *testing.F) {
	good, err := json.Marshal(Manifest{Kind: manifestKind, Schema: manifestSchema, Images: []ManifestImage{{
		Image: "disk.raw", Layers: []ManifestLayer{{Format: "raw", Files: []ManifestFile{{File: "disk.raw", Digests: Digests{"md5": "x"}}}}},
	}}})
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "inside", "disk.raw")
	for _, p := range []string{filepath.Join(dir, "inside"), filepath.Join(dir, "inside", "deeper")} {
		if err := os.Mkdir(p, 0o700); err != nil {
			f.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"kind":"vdfs manifest","schema":1,"images":[{"image":"disk.raw","layers":[{"files":[{"file":"../../../../../etc/passwd","digests":{"md5":"x"}}]}]}]}`))
	f.Add([]byte(`{"kind":"vdfs manifest","schema":2}`))
	f.Add([]byte(`{"kind":"vdfs manifest","schema":1,"images":[{"layers":[{"files":[{"file":"deeper","size":-1}]}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			if m != nil {
				t.Error("a manifest and an error")
			}
			return
		}
		v, err := Verify(t.Context(), m, path, vdcore.Options{}, nil)
		if err != nil {
			return
		}
		for p := range v.stats {
			if rel, err := filepath.Rel(dir, p); err != nil || !filepath.IsLocal(rel) {
				t.Errorf("%s was opened", p)
			}
		}
	})
}
