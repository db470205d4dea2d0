package erofs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFsck has erofs-utils check images and take the file out of them, which versions
// before 1.7 do wrong where there are holes.
func TestFsck(t *testing.T) {
	if _, err := exec.LookPath("fsck.erofs"); err != nil {
		t.Skip("SKIP: fsck.erofs is not installed (erofs-utils)")
	}
	for seed := range uint64(8) {
		r, dense := rand.New(rand.NewPCG(seed, 10)), int(seed%2) // 1 leaves out holes
		p := newPicture(noise(r, 2<<20), noise(r, 1<<20+4096))
		for range 20 {
			p.add(4096*(1+r.Int64N(64)), []int{0, 1, Copy, Hole}[r.IntN(4-dense)], 4096*r.Int64N(128))
		}
		p.add(1+r.Int64N(9000), 0, 0)
		plan, image := p.write(t)
		dir := t.TempDir()
		args := []string{"--extract=" + filepath.Join(dir, "out")}
		for i, d := range p.devices {
			name := filepath.Join(dir, fmt.Sprint("device", i))
			if err := os.WriteFile(name, d, 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--device="+name)
		}
		name := filepath.Join(dir, "image")
		if err := os.WriteFile(name, image, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("fsck.erofs", append(args, name)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: fsck.erofs: %v\n%s", plan, err, out)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "out", "disk")); err != nil || dense == 1 && !bytes.Equal(got, p.content) {
			t.Errorf("%v: %v; fsck.erofs takes out %d bytes, want %d", plan, err, len(got), len(p.content))
		}
	}
}
