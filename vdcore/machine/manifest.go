package machine

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// Digest is a line of a manifest, and what came of checking it.
type Digest struct {
	Name      string // of the file
	Algorithm string
	Err       error // why it is not as the manifest says, nil if it is
}

// manifestLine is `SHA256 (name) = hex`; some write no blanks (DSP0243, 5.1).
var manifestLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(SHA1|SHA256|SHA384|SHA512) ?\((.*)\) ?= ?([0-9A-Fa-f]+)$`)
})

var hashes = map[string]func() hash.Hash{"SHA1": sha1.New, "SHA256": sha256.New, "SHA384": sha512.New384, "SHA512": sha512.New}

// parseManifest reads the lines of a manifest. One it does not understand is an error:
// what it was to vouch for would be taken for checked.
func parseManifest(text string) (list []Digest, want [][]byte, err error) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		m := manifestLine().FindStringSubmatch(line)
		if len(list) == maxMembers {
			return nil, nil, fmt.Errorf("more than %d files: %w", maxMembers, vdcore.ErrUnsupported)
		}
		if m == nil {
			return nil, nil, fmt.Errorf("%q is no line of a manifest: %w", line[:min(len(line), 80)], vdcore.ErrCorrupt)
		}
		sum, err := hex.DecodeString(m[3])
		if err != nil || len(sum) != hashes[m[1]]().Size() {
			return nil, nil, fmt.Errorf("%q is no %s digest: %w", m[3], m[1], vdcore.ErrCorrupt)
		}
		list, want = append(list, Digest{Name: m[2], Algorithm: m[1]}), append(want, sum)
	}
	return list, want, nil
}

// Verify reads every file the manifest beside an OVF description lists and compares
// its digest; progress is told how many bytes were read, of how many. A machine without
// a manifest has none to check. What is wrong with a file is an error in its Digest.
func (m *Machine) Verify(ctx context.Context, progress func(done, total int64)) (list []Digest, err error) {
	if m.manifest == "" {
		return nil, nil
	}
	home := m.File
	if m.Archive {
		home = m.Path
	}
	host, err := storage.NewOS(home, m.search...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	r := &reader{m, host.Below(filepath.Dir(home)), filepath.Dir(m.File)}
	if m.Archive {
		if r.fs, err = openArchive(r.fs, m.Path); err != nil {
			return nil, err
		}
	}
	text, err := r.text(m.manifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, want, err := parseManifest(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.manifest, err)
	}
	v := &verifier{reader: r, ctx: ctx, progress: progress}
	return list, v.all(list, want)
}

// verifier reads the files of a manifest.
type verifier struct {
	*reader
	ctx         context.Context
	progress    func(done, total int64) // nil for none
	done, total int64
}

func (v *verifier) all(list []Digest, want [][]byte) error {
	files := make([]storage.File, len(list))
	for i := range list {
		path, err := v.find(list[i].Name)
		if err == nil {
			files[i], err = v.fs.Open(path, storage.ReadOnly)
		}
		if list[i].Err = err; err != nil {
			continue
		}
		defer files[i].Close()
		if st, err := files[i].Stat(); err == nil {
			v.total += st.Size
		}
	}
	for i := range list {
		if files[i] != nil {
			list[i].Err = v.check(files[i], list[i], want[i])
		}
		if v.ctx.Err() != nil {
			return v.ctx.Err()
		}
	}
	return nil
}

func (v *verifier) check(f storage.File, d Digest, want []byte) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	h := hashes[d.Algorithm]()
	if _, err := io.Copy(io.MultiWriter(h, v), io.NewSectionReader(f, 0, st.Size)); err != nil {
		return err
	}
	if got := h.Sum(nil); string(got) != string(want) {
		return fmt.Errorf("%s: %w: its %s is %x, and the manifest %s says %x", f.Path(), vdcore.ErrCorrupt, d.Algorithm, got, v.manifest, want)
	}
	return nil
}

// Write counts what was hashed, and stops when that is no longer wanted.
func (v *verifier) Write(p []byte) (int, error) {
	if v.done += int64(len(p)); v.progress != nil {
		v.progress(v.done, v.total)
	}
	return len(p), v.ctx.Err()
}
