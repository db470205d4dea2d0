package shell

import (
	"os/exec"
	"strings"
	"testing"
	"unicode"
)

// TestQuote: a real shell takes a quoted word for what it was, and a terminal nothing of
// it for an order.
func TestQuote(t *testing.T) {
	for _, word := range []string{"/plain/disk-1.raw", "a b", "it's", "$HOME `x` \"y\" \\", "", "ü 🐧", "line\nbreak", "\x1b[2J", "\xff", "*", "~", "�"} {
		quoted := Quote(word)
		if strings.ContainsFunc(quoted, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(quoted, "\xff") {
			t.Errorf("%q is quoted as %q", word, quoted)
		}
		out, err := exec.Command("bash", "-c", "printf %s "+quoted).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q is %q for a shell, %v", word, out, err)
		}
	}
}
