package storage

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestSection: a part begins and ends where it was said to, whoever reads it.
func TestSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "whole")
	if err := os.WriteFile(path, []byte("beforeINSIDEafter"), 0o600); err != nil {
		t.Fatal(err)
	}
	host, err := NewOS(path)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	whole, err := host.Open(path, ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSection(whole, path+"/inside", 6, 6)
	defer s.Close()
	buf := make([]byte, 10)
	if n, err := s.ReadAt(buf, 0); string(buf[:n]) != "INSIDE" || err != io.EOF {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if n, err := s.ReadAt(buf[:2], 4); string(buf[:n]) != "DE" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if n, err := s.ReadAt(buf, -1); n != 0 || err == nil {
		t.Errorf("before the beginning: %d, %v", n, err)
	}
	st, err := s.Stat()
	other, oerr := NewSection(whole, "", 7, 6).Stat()
	if err != nil || oerr != nil || st.Size != 6 || st.ID == other.ID {
		t.Errorf("%+v and %+v, %v, %v", st, other, err, oerr)
	}
	if _, _, err := s.Pin(); !errors.Is(err, ErrNoDescriptor) {
		t.Errorf("a descriptor: %v", err)
	}
	if _, err := s.WriteAt(buf, 0); err == nil {
		t.Error("written")
	}
	past := NewSection(whole, "", 12, 100)
	if n, err := past.ReadAt(make([]byte, 50), 0); n != 5 || err != io.EOF {
		t.Errorf("past the end of the whole: %d, %v", n, err)
	}
}
