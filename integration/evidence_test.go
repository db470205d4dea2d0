package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"vdfs/vdcore/vdtest"
)

// state is everything stat says of a file that reading could change, and its hash.
func state(t *testing.T, dir string, hash bool) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := os.Stat(p)
		if err != nil {
			return err
		}
		s := st.Sys().(*syscall.Stat_t)
		all[p] = fmt.Sprint(s.Size, s.Blocks, s.Mode, s.Atim, s.Mtim, s.Ctim)
		if hash {
			all[p] += sum(t, p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// strict makes a file system mounted strictatime, where a read without O_NOATIME
// always shows.
func strict(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	img := filepath.Join(dir, "fs.img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 256<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "mkfs.ext4", "-q", "-F", img)
	mnt := filepath.Join(dir, "strict")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if r := command(t, nil, "mount", "-o", "loop,strictatime", img, mnt); r.code != 0 {
		skip(t, "cannot mount a file system of our own: %s", r.stderr)
	}
	t.Cleanup(func() { command(noContext{t}, nil, "umount", mnt) })
	return mnt
}

// TestEvidence: mounting and reading everything changes nothing about the image
// files, access times included.
func TestEvidence(t *testing.T) {
	for _, archive := range []string{"demo.tar.gz", "vmlayout.tar.gz", "vmdk-split.tar.gz", "vmdk-stream.tar.gz", "vmdk-flat.tar.gz"} {
		t.Run(archive, func(t *testing.T) {
			dir := filepath.Join(strict(t), "evidence")
			vdtest.Unpack(t, archive, dir)
			hashes := state(t, dir, true) // this moves access times, so it comes first
			before := state(t, dir, false)
			top := topOf(t, dir, archive)
			mnt := t.TempDir()
			mountAt(t, mnt, top)
			readAll(t, mnt)
			must(t, "info", top)
			must(t, "map", top)
			must(t, "chain", top)
			must(t, "copy", top, filepath.Join(t.TempDir(), "out"))
			manifest, _ := manifestOf(t, top, "--layers")
			must(t, "hash", "--verify", manifest, top)
			must(t, "umount", mnt)
			for p, was := range before {
				if is := state(t, dir, false)[p]; is != was {
					t.Errorf("%s was %s and is %s", filepath.Base(p), was, is)
				}
			}
			for p := range hashes {
				if tail := sum(t, p); len(tail) > len(hashes[p]) || hashes[p][len(hashes[p])-len(tail):] != tail {
					t.Errorf("%s: content changed", filepath.Base(p))
				}
			}
		})
	}
}

func topOf(t *testing.T, dir, archive string) string {
	t.Helper()
	for _, c := range vdtest.Cases(t) {
		if c.Archive == archive {
			return filepath.Join(dir, c.Layers[0].File)
		}
	}
	t.Fatalf("no golden chain %s", archive)
	return ""
}

// readAll reads every file below a mountpoint.
func readAll(t *testing.T, mnt string) {
	t.Helper()
	err := filepath.WalkDir(mnt, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			sum(t, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReadOnlyMedia: it works from a read-only mount and on files of mode 0444.
func TestReadOnlyMedia(t *testing.T) {
	needRoot(t)
	dir := demoChain(t)
	for _, f := range []string{"base", "installed", "configured", "updated"} {
		if err := os.Chmod(filepath.Join(dir, f+".vdi"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	ro := t.TempDir()
	tool(t, "mount", "--bind", dir, ro)
	defer tool(noContext{t}, "umount", ro)
	tool(t, "mount", "-o", "remount,ro,bind", ro)
	mnt := t.TempDir()
	mountAt(t, mnt, filepath.Join(ro, "updated.vdi"))
	check(t, filepath.Join(mnt, "updated", "disk.raw"), 64<<20, demoHash)
	must(t, "umount", mnt)
}
