package fs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Entry is one line of the mount table.
type Entry struct {
	Device     string // major:minor
	Mountpoint string
	Type       string // fuse.vdfs
	Source     string // fsname
	Options    string // of the mount and of the file system
}

// MountTable reads the mounts this process sees, in mount order. It touches none
// of them.
func MountTable() ([]Entry, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMountinfo(f)
}

// Mounts lists the vdfs mounts.
func Mounts() ([]Entry, error) {
	all, err := MountTable()
	var ours []Entry
	for _, e := range all {
		if e.Type == FSType {
			ours = append(ours, e)
		}
	}
	return ours, err
}

// MountAt returns the topmost mount at exactly path, nil when there is none.
func MountAt(path string) (*Entry, error) {
	all, err := MountTable()
	if err != nil {
		return nil, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Mountpoint == path {
			return &all[i], nil
		}
	}
	return nil, nil
}

func parseMountinfo(r io.Reader) ([]Entry, error) {
	var list []Entry
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		e, err := parseEntry(s.Text())
		if err != nil {
			return list, err
		}
		list = append(list, e)
	}
	return list, s.Err()
}

// parseEntry reads "36 35 98:0 /root /mount/point opts tags… - type source opts".
func parseEntry(line string) (Entry, error) {
	before, after, ok := strings.Cut(line, " - ")
	head, tail := strings.Split(before, " "), strings.Split(after, " ")
	if !ok || len(head) < 6 || len(tail) < 3 {
		return Entry{}, fmt.Errorf("mountinfo: %w: %q", errors.ErrUnsupported, line)
	}
	return Entry{
		Device: head[2], Mountpoint: unescape(head[4]), Options: head[5] + "," + tail[2],
		Type: unescape(tail[0]), Source: unescape(tail[1]),
	}, nil
}

// unescape undoes the kernel's \ooo for space, tab, newline, backslash and '#'.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1]) && isOctal(s[i+2]) && isOctal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }
