package vmdk

import (
	"bytes"
	"fmt"
	"strings"

	"vdfs/vdcore"
)

const (
	maxText       = 1 << 20 // bytes of descriptor text; QEMU's limit, VirtualBox takes less
	usualSettings = 16      // room for them
	maxExtents    = 32768   // 64 TiB in pieces of 2 GiB, about what fits into maxText
	// maxSectors bounds every size and position found in a descriptor or header,
	// so that sums of a few of them, in bytes, stay far from overflowing. 512 PiB.
	maxSectors = 1 << 50
	sector     = 512
)

// descriptor is the parsed text. Nothing in it is trusted yet.
type descriptor struct {
	Settings []setting    `json:"settings"`
	Extents  []extentLine `json:"extents"`

	index    map[string]int // folded key → first setting of that name
	repeated []string       // keys that came again with another value
}

type setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`

	folded string // the key in lower case
	at     int    // where the value begins in the text, in bytes, behind a quote
}

// get returns a setting's value; keys have no case.
func (d *descriptor) get(key string) (string, bool) {
	i, ok := d.index[strings.ToLower(key)]
	if !ok {
		return "", false
	}
	return d.Settings[i].Value, true
}

// find returns the setting get reads, which must be there.
func (d *descriptor) find(key string) setting { return d.Settings[d.index[strings.ToLower(key)]] }

// count is how often a key is set.
func (d *descriptor) count(key string) (n int) {
	for _, s := range d.Settings {
		if strings.EqualFold(s.Key, key) {
			n++
		}
	}
	return n
}

// isDescriptor reports whether text begins with the disk descriptor comment, in
// any of its spellings.
func isDescriptor(text []byte) bool {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	text = bytes.TrimLeft(text, " \t\r\n")
	text = text[:min(len(text), 64)]
	rest, ok := bytes.CutPrefix(text, []byte("#"))
	if !ok {
		return false
	}
	rest = bytes.ToLower(bytes.TrimLeft(rest, " \t"))
	rest, ok = bytes.CutPrefix(rest, []byte("disk descriptor"))
	return ok && bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), []byte("file"))
}

// parseDescriptor reads the text up to the first NUL.
func parseDescriptor(text []byte) (*descriptor, error) {
	text, _, _ = bytes.Cut(text, []byte{0})
	if !isDescriptor(text) {
		return nil, fmt.Errorf(`no line "# Disk DescriptorFile" at its start: %w`, vdcore.ErrFormat)
	}
	if len(text) > maxText {
		return nil, fmt.Errorf("descriptor too long, over %d bytes: %w", maxText, vdcore.ErrCorrupt)
	}
	body := bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	d, at, n := &descriptor{index: make(map[string]int, usualSettings), Settings: make([]setting, 0, usualSettings)}, len(text)-len(body), 0
	for line := range strings.SplitSeq(string(body), "\n") {
		n++
		trimmed := strings.TrimLeft(line, " \t\r\f\v")
		if err := d.line(strings.TrimRight(trimmed, " \t\r\f\v"), at+len(line)-len(trimmed)); err != nil {
			return nil, fmt.Errorf("descriptor line %d: %w", n, err)
		}
		at += len(line) + 1
	}
	return d, nil
}

// line takes one line, which begins at a byte of the text. What is neither comment,
// extent nor setting is refused: a skipped extent would shift everything behind it.
func (d *descriptor) line(line string, at int) error {
	switch {
	case line == "" || line[0] == '#':
		return nil
	case strings.ContainsRune(line, '\r'):
		return fmt.Errorf("a carriage return inside the line: %w", vdcore.ErrCorrupt)
	}
	e, ok, err := parseExtentLine(line)
	if err != nil {
		return err
	}
	if ok {
		if len(d.Extents) == maxExtents {
			return fmt.Errorf("more than %d extents: %w", maxExtents, vdcore.ErrUnsupported)
		}
		d.Extents = append(d.Extents, e)
		return nil
	}
	return d.setting(line, at)
}

func (d *descriptor) setting(line string, at int) error {
	key, value, ok := strings.Cut(line, "=")
	key = strings.TrimRight(key, " \t")
	if !ok || key == "" || strings.ContainsAny(key, " \t\"") {
		return fmt.Errorf("%.60q is neither an extent nor a setting: %w", line, vdcore.ErrCorrupt)
	}
	bare := strings.TrimLeft(value, " \t")
	at += len(line) - len(bare)
	bare = strings.TrimRight(bare, " \t")
	if value = unquote(bare); value != bare {
		at++
	}
	folded := strings.ToLower(key)
	if i, again := d.index[folded]; !again {
		d.index[folded] = len(d.Settings)
	} else if d.Settings[i].Value != value {
		d.repeated = append(d.repeated, key)
	}
	d.Settings = append(d.Settings, setting{key, value, folded, at})
	return nil
}

func unquote(v string) string {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}
