package vdcore

import (
	"bytes"
	"encoding/binary"
)

// foreignFormat is an image format vdfs recognises and does not read. Showing
// such a file as raw would be wrong data under a plausible name.
type foreignFormat struct {
	name  string
	exts  []string // extensions that promise it; none where plain disks use it too
	match func(Sample) bool
}

func startsWith(magic string) func(Sample) bool {
	return func(s Sample) bool { return bytes.HasPrefix(s.Head, []byte(magic)) }
}

// footer matches a magic n bytes before the end of the file.
func footer(n int, magic string) func(Sample) bool {
	return func(s Sample) bool {
		return len(s.Tail) >= n && bytes.HasPrefix(s.Tail[len(s.Tail)-n:], []byte(magic))
	}
}

func either(a, b func(Sample) bool) func(Sample) bool {
	return func(s Sample) bool { return a(s) || b(s) }
}

// A fixed VHD has none at
// its start: the trailer is looked for before anything counts as raw. DMG keeps
// no extension here because a read-write image of that name is a plain disk.
var foreignFormats = []foreignFormat{
	{"VHD image", []string{".vhd", ".avhd", ".vpc"}, either(startsWith("conectix"), either(footer(512, "conectix"), footer(511, "conectix")))},
	{"VHDX image", []string{".vhdx", ".avhdx"}, startsWith("vhdxfile")},
	{"QCOW image", []string{".qcow", ".qcow2"}, startsWith("QFI\xfb")},
	{"QED image", []string{".qed"}, startsWith("QED\x00")},
	{"Parallels image", []string{".hds"}, either(startsWith("WithoutFreeSpace"), startsWith("WithouFreSpacExt"))},
	{"DMG image", nil, isDMG},
	{"EnCase evidence file", []string{".e01"}, startsWith("EVF\x09\x0d\x0a\xff\x00")},
	{"OVF archive", []string{".ova"}, func(Sample) bool { return false }},
}

func isDMG(s Sample) bool {
	return footer(512, "koly")(s) && binary.BigEndian.Uint32(s.Tail[len(s.Tail)-512+8:]) == 512
}

// foreign names the known format the content carries the signature of.
func foreign(s Sample) string {
	for _, f := range foreignFormats {
		if f.match(s) {
			return f.name
		}
	}
	return ""
}

// foreignExtension names the format a file extension promises.
func foreignExtension(ext string) string {
	for _, f := range foreignFormats {
		for _, e := range f.exts {
			if e == ext {
				return f.name
			}
		}
	}
	return ""
}
