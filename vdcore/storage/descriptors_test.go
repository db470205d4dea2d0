package storage

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
)

// TestScarce: where the process may have few descriptors, few stay open, and the count
// of them is right in the end.
func TestScarce(t *testing.T) {
	usual := mayOpen
	defer func() { mayOpen = usual }()
	mayOpen = func() int64 { return 64 }
	dir, o := host(t)
	counted, before := openFiles.Load(), descriptors(t)
	files := make([]File, 100)
	for i := range files {
		name := fmt.Sprintf("vm/%03d.vdi", i)
		write(t, dir, name, fmt.Sprintf("file %03d", i))
		f, err := o.Open(filepath.Join(dir, name), ReadOnly)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	if held := descriptors(t) - before; held > 64/4+4 { // the root, and the folder listed, among them
		t.Errorf("%d descriptors held of 64", held)
	}
	if Room(64) || !Room(1) {
		t.Error("room for 64 descriptors more, or for none")
	}
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := range files {
				i = (i*7 + k*31) % len(files)
				b := make([]byte, 8)
				if err := ReadFull(files[i], b, 0); err != nil || string(b) != fmt.Sprintf("file %03d", i) {
					t.Errorf("file %d: %q, %v", i, b, err)
				}
			}
		})
	}
	wg.Wait()
	for _, f := range files {
		f.Close()
		f.Close()
	}
	if n := openFiles.Load() - counted; n != 0 {
		t.Errorf("%d descriptors are counted after all files were closed", n)
	}
}
