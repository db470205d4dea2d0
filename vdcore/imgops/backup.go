package imgops

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// A backup holds every byte a repair replaces or cuts off, so that the image can be
// brought back as it was. It is a text of lines that end in LF, and behind it the
// bytes, at the offsets the text names:
//
//	vdfs backup 1
//	file 0 size 4196352 "disk.vdi"
//	save file 0 at 2097152 length 32 from 4096
//	end
//
// A file is first made empty behind its old size, and the saved bytes are written
// back; what lies in the range of a "zero" line were zeros. The first line is written
// last: without it the backup is not whole.
const (
	backupMagic = "vdfs backup 1\n"
	backupAlign = 4096
	maxBackups  = 1000
)

// saved is a range of a file, and where its bytes are in the backup.
type saved struct {
	file     int
	pos, len int64
	from     int64 // -1: zeros
}

// saveBackup writes the backup of what a plan changes, durable when it returns, and
// removes it after an error.
func saveBackup(ctx context.Context, r *vdcore.Repair) (string, error) {
	list, err := toSave(r.Plan)
	if err != nil {
		return "", err
	}
	f, path, err := newBackup(r)
	if err != nil {
		return "", err
	}
	if err := errors.Join(writeBackup(ctx, r, list, f), f.Close(), r.FS().SyncDir(filepath.Dir(path))); err != nil {
		return "", errors.Join(err, r.FS().Remove(path))
	}
	return path, nil
}

// writeBackup writes the text, the bytes, and when they are on disk the first line.
func writeBackup(ctx context.Context, r *vdcore.Repair, list []saved, f storage.File) error {
	index, err := backupIndex(r, list)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(index[len(backupMagic):], int64(len(backupMagic))); err != nil {
		return err
	}
	for _, s := range list {
		if err := s.save(ctx, r.Plan.Files[s.file], f); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.WriteAt(index[:len(backupMagic)], 0); err != nil {
		return err
	}
	return f.Sync()
}

// newBackup creates a file of the next free number. It holds what the guest wrote, so
// nobody else may read it, whoever may read the image.
func newBackup(r *vdcore.Repair) (storage.File, string, error) {
	for n := 1; n <= maxBackups; n++ {
		path := fmt.Sprintf("%s.vdfs-backup-%d", r.Path, n)
		f, err := r.FS().Open(path, storage.CreatePrivate)
		if !errors.Is(err, fs.ErrExist) {
			return f, path, err
		}
	}
	return nil, "", fmt.Errorf("%s: there are %d backups already: %w", r.Path, maxBackups, fs.ErrExist)
}

// toSave lists what a plan replaces or cuts off, joined, in the order of the files.
func toSave(p *vdcore.RepairPlan) ([]saved, error) {
	var list []saved
	sizes := make([]int64, len(p.Files))
	for k, f := range p.Files {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		sizes[k] = st.Size
	}
	for _, c := range slices.Concat(p.Steps...) {
		size := sizes[c.File]
		n := max(int64(len(c.Data)), c.Len)
		if c.Resize {
			n = max(size-c.Pos, 0)
		}
		if n = min(n, size-c.Pos); n > 0 {
			list = append(list, saved{file: c.File, pos: c.Pos, len: n})
		}
	}
	list = joinSaved(list)
	var parts []saved
	for _, s := range list {
		some, err := s.split(p.Files[s.file])
		if err != nil {
			return nil, err
		}
		parts = append(parts, some...)
	}
	return parts, nil
}

func joinSaved(list []saved) []saved {
	slices.SortFunc(list, func(a, b saved) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.pos, b.pos)) })
	var out []saved
	for _, s := range list {
		if k := len(out) - 1; k >= 0 && out[k].file == s.file && s.pos <= out[k].pos+out[k].len {
			out[k].len = max(out[k].len, s.pos+s.len-out[k].pos)
			continue
		}
		out = append(out, s)
	}
	return out
}

// split tells what is in holes of the file, and takes no room.
func (s saved) split(f storage.File) (parts []saved, err error) {
	for end := s.pos + s.len; s.pos < end; {
		data, err := f.NextData(s.pos)
		if err != nil {
			return nil, err
		}
		if data = min(data, end); data > s.pos {
			parts = append(parts, saved{s.file, s.pos, data - s.pos, -1})
			s.pos = data
			continue
		}
		hole, err := f.NextHole(s.pos)
		if err != nil {
			return nil, err
		}
		hole = min(max(hole, s.pos+1), end)
		parts = append(parts, saved{s.file, s.pos, hole - s.pos, 0})
		s.pos = hole
	}
	return parts, nil
}

// backupIndex is the text of a backup, with numbers of a fixed width, so that its
// length is known before the offsets in it are.
func backupIndex(r *vdcore.Repair, list []saved) ([]byte, error) {
	index, err := backupText(r, list)
	if err != nil {
		return nil, err
	}
	at := (int64(len(index)) + backupAlign - 1) / backupAlign * backupAlign
	for k := range list {
		if s := &list[k]; s.from >= 0 {
			s.from, at = at, at+s.len
		}
	}
	return backupText(r, list)
}

func backupText(r *vdcore.Repair, list []saved) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(backupMagic)
	for k, f := range r.Plan.Files {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(filepath.Dir(r.Path), f.Path())
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "file %d size %d %q\n", k, st.Size, name)
	}
	for _, s := range list {
		if s.from < 0 {
			fmt.Fprintf(&b, "zero file %d at %d length %d\n", s.file, s.pos, s.len)
			continue
		}
		fmt.Fprintf(&b, "save file %d at %d length %d from %019d\n", s.file, s.pos, s.len, s.from)
	}
	b.WriteString("end\n")
	return b.Bytes(), nil
}

// save copies the bytes to the backup.
func (s saved) save(ctx context.Context, from, to storage.File) error {
	if s.from < 0 {
		return nil
	}
	buf := make([]byte, min(s.len, copyChunk))
	for done := int64(0); done < s.len; done += copyChunk {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := storage.Copy(to, s.from+done, from, s.pos+done, min(s.len-done, copyChunk), buf); err != nil {
			return err
		}
	}
	return nil
}
