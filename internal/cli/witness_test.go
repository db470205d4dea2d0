package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
)

// TestVerifyStops: after the mount has gone, a signal ends the comparison with the
// manifest, which would take hours here; that is no change, and no success either.
func TestVerifyStops(t *testing.T) {
	dir, err := storage.Resolve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "large.img")
	const size = 1 << 40
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	w := &witness{verified: []string{path}, manifest: &imgops.Manifest{Images: []imgops.ManifestImage{{
		Image: "large.img", Layers: []imgops.ManifestLayer{{Files: []imgops.ManifestFile{{
			File: "large.img", Size: size, Digests: imgops.Digests{"md5": "x"},
		}}}},
	}}}}
	if w.stop() {
		t.Error("mounted, and said to be gone")
	}
	done := make(chan error)
	go func() { done <- w.finish() }()
	for !w.stop() {
		time.Sleep(time.Millisecond)
	}
	if err := <-done; exitCode(err) != exitIO {
		t.Errorf("%v: exit %d, want %d", err, exitCode(err), exitIO)
	}
}
