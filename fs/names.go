package fs

import (
	"fmt"
	"hash/fnv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// maxName keeps names under the 255 bytes of a path component, with room for
// what is put around them ("499-", ".raw", "-2").
const maxName = 200

// safeName makes one path component of a name that may come from an image or
// from a hostile file system: no separators, nothing a terminal would obey.
func safeName(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '/' || r == utf8.RuneError || !unicode.IsPrint(r):
			r = '_'
		}
		if b.Len()+utf8.RuneLen(r) > maxName {
			break
		}
		b.WriteRune(r)
	}
	switch name := b.String(); name {
	case "", ".", "..":
		return "image"
	default:
		return name
	}
}

// names hands out distinct names: the second "disk" is "disk-2".
type names map[string]bool

func (n names) take(s string) string {
	name := s
	for i := 2; n[name]; i++ {
		name = fmt.Sprintf("%s-%d", s, i)
	}
	n[name] = true
	return name
}

// takeWith is take for a name that is used as it is and with an ending.
func (n names) takeWith(s, ending string) string {
	name := s
	for i := 2; n[name] || n[name+ending]; i++ {
		name = fmt.Sprintf("%s-%d", s, i)
	}
	n[name], n[name+ending] = true, true
	return name
}

// inodes hands out inode numbers that depend on the path only. Two paths with
// one hash are told apart by trying the next number, in tree order.
type inodes map[uint64]bool

func (n inodes) take(path string) uint64 {
	ino := n.find(path)
	n[ino] = true
	return ino
}

// find is take without the taking.
func (n inodes) find(path string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(path))
	ino := h.Sum64()
	// 0 is no inode, 1 the root's, and go-fuse keeps the last for itself.
	for ino <= fuse.FUSE_ROOT_ID || ino == ^uint64(0) || n[ino] {
		ino++
	}
	return ino
}
