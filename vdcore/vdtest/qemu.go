package vdtest

import (
	"os"
	"os/exec"
	"testing"
)

// QEMUImg runs qemu-img and returns what it prints. Without qemu-img the test is
// skipped, or with VDFS_NO_SKIP, as in CI, fails.
func QEMUImg(t *testing.T, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		if os.Getenv("VDFS_NO_SKIP") != "" {
			t.Fatal(err)
		}
		t.Skip("qemu-img is not installed")
	}
	cmd := exec.Command("qemu-img", args...)
	out, err := cmd.Output()
	if err != nil {
		text := out
		if exit, ok := err.(*exec.ExitError); ok {
			text = append(text, exit.Stderr...)
		}
		t.Fatalf("qemu-img %v: %v\n%s", args, err, text)
	}
	return out
}
