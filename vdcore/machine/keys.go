package machine

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/htmlindex"

	"vdfs/vdcore"
)

// keys are the lines `key = "value"` of VMware's files, keys in lower case: VMware does
// not care. The first line of a key counts.
type keys map[string]string

// maxKeys bounds the lines of such a file.
const maxKeys = 100000

// parseKeys reads VMware's text files (.vmx, .vmsd): a line each, # begins a comment,
// |22 in a value is the character of that hexadecimal code. The key .encoding names how
// the text is encoded; without, it is UTF-8.
func parseKeys(text []byte) (keys, error) {
	k := keys{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxText)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" || name[0] == '#' {
			continue
		}
		if _, known := k[name]; !known {
			k[name] = unquote(value)
		}
		if len(k) > maxKeys {
			return nil, fmt.Errorf("more than %d lines: %w", maxKeys, vdcore.ErrUnsupported)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	k.decode()
	return k, nil
}

// unquote takes the quotes and the escapes off a value.
func unquote(value string) string {
	value = strings.TrimSpace(value)
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1]
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(value, "|")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		code, err := strconv.ParseUint(after[:min(2, len(after))], 16, 8)
		if err != nil || len(after) < 2 { // no escape
			b.WriteByte('|')
			value = after
			continue
		}
		b.WriteByte(byte(code))
		value = after[2:]
	}
}

// decode makes the values UTF-8. An encoding nobody knows leaves them as they are.
func (k keys) decode() {
	enc, err := htmlindex.Get(k[".encoding"])
	if err != nil {
		return
	}
	for name, value := range k {
		if text, err := enc.NewDecoder().String(value); err == nil {
			k[name] = text
		}
	}
}
