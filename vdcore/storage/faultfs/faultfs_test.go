package faultfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"vdfs/vdcore/storage"
	"vdfs/vdcore/storage/crashfs"
)

func setup(t *testing.T, rule Rule) (*FS, *crashfs.FS, storage.File) {
	t.Helper()
	below := crashfs.New()
	below.Put("/vm/a", make([]byte, 8192))
	f := New(below, rule)
	x, err := f.Below("/vm").Open("/vm/a", storage.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	return f, below, x
}

func TestEveryMutation(t *testing.T) {
	f, below, x := setup(t, Rule{At: 1, Forever: true})
	_, werr := x.WriteAt(make([]byte, 10), 0)
	_, cerr := f.Open("/vm/b", storage.Create)
	for _, err := range []error{
		werr, cerr, x.Truncate(1), x.Punch(0, 1), x.Allocate(0, 1), x.Sync(), x.DataSync(), f.Remove("/vm/a"), f.SyncDir("/vm"),
	} {
		if !errors.Is(err, syscall.EIO) {
			t.Error(err)
		}
	}
	if below.Ops() != 0 || f.Count() != 9 || len(f.Failed()) != 9 {
		t.Error(below.Trace(20), f.Count(), f.Failed())
	}
	if s := f.Failed()[0].String(); s != "1: write /vm/a [0,+10)" {
		t.Error(s)
	}
	if _, err := x.ReadAt(make([]byte, 10), 0); err != nil {
		t.Error("reads are not mutations:", err)
	}
	f.Quietly(func() {
		if err := x.Sync(); err != nil || f.Count() != 9 {
			t.Error(err, f.Count())
		}
	})
	f.Clear()
	if err := x.Sync(); err != nil {
		t.Error(err)
	}
}

func TestTurns(t *testing.T) {
	boom := errors.New("boom")
	for _, forever := range []bool{false, true} {
		f, _, x := setup(t, Rule{Ops: Write | Sync, At: 2, Forever: forever, Err: boom})
		var failed []bool
		for range 3 {
			_, err := x.WriteAt([]byte("x"), 0)
			failed = append(failed, errors.Is(err, boom), x.Punch(0, 1) != nil)
		}
		if failed[0] || !failed[2] || failed[4] != forever || failed[1] || failed[3] || failed[5] {
			t.Error(forever, failed)
		}
		f.Set(Rule{Match: func(p string) bool { return strings.HasSuffix(p, "b") }, At: 1})
		if err := x.Sync(); err != nil {
			t.Error("another file:", err)
		}
	}
}

func TestShortWrite(t *testing.T) {
	_, below, x := setup(t, Rule{At: 1, Forever: true, Err: syscall.ENOSPC, Short: true})
	p := bytes.Repeat([]byte{'x'}, 3000)
	n, err := x.WriteAt(p, 100)
	if n != 1536-100 || !errors.Is(err, syscall.ENOSPC) {
		t.Error(n, err)
	}
	want := make([]byte, 8192)
	copy(want[100:], p[:n])
	if !bytes.Equal(below.Bytes("/vm/a"), want) {
		t.Error("not what was said")
	}
	if n, err := x.WriteAt(p[:8], 100); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Error(n, err)
	}
}

func TestReads(t *testing.T) {
	_, _, x := setup(t, Rule{Ops: Read, At: 2, Err: io.ErrUnexpectedEOF})
	buf := make([]byte, 10)
	_, err1 := x.ReadAt(buf, 0)
	_, err2 := x.ReadAt(buf, 0)
	_, err3 := x.ReadAt(buf, 0)
	if err1 != nil || err2 == nil || err3 != nil {
		t.Error(err1, err2, err3)
	}
}

// A failed sync drops what it was to write.
func TestSyncTellsBelow(t *testing.T) {
	f, below, x := setup(t, Rule{Ops: Sync, At: 1})
	x.WriteAt([]byte("x"), 0)
	if err := x.Sync(); err == nil {
		t.Error("no error")
	}
	f.Clear()
	if err := x.Sync(); err != nil {
		t.Error(err)
	}
	lost := false
	for seed := range uint64(20) {
		lost = lost || below.Survive(rand.New(rand.NewPCG(seed, 1))).Bytes("/vm/a")[0] == 0
	}
	if !lost {
		t.Error("the second sync made it durable")
	}
}
