// Package shell writes the words of commands that a user is told to copy.
package shell

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Quote makes s one word of a command line of bash or zsh, and such that a terminal obeys
// nothing in it: of text with control characters every odd byte is an escape.
func Quote(s string) string {
	switch {
	case s != "" && strings.IndexFunc(s, odd) < 0:
		return s
	case utf8.ValidString(s) && strings.IndexFunc(s, hidden) < 0:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if odd(rune(c)) {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return "$'" + b.String() + "'"
}

// odd is what may mean something to a shell.
func odd(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !letter && !strings.ContainsRune("/._-+=:,@%", r)
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }
