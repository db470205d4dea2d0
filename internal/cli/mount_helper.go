package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mount(8) hands a mount of type "x" over to a program /sbin/mount.x, which is this one
// by another name:
//
//	mount.vdfs IMAGE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
//
// Where only /sbin/mount.fuse3 is there, it runs `vdfs IMAGE MOUNTPOINT -o OPTIONS`.
// Exit codes are those of mount(8).
const (
	mountUsage  = 1  // incorrect invocation
	mountFailed = 32 // whatever else
)

// helperNames are what the binary is called as a helper, and the types it mounts.
var helperNames = map[string]string{"mount.vdfs": "vdfs", "mount.fuse.vdfs": "fuse.vdfs"}

// helperCall is how mount(8) calls.
type helperCall struct {
	name              string // of this program, for messages
	image, mountpoint string
	options           []string // lists
	fake, sloppy      bool
	verbose           bool
	namespace         string
}

// isHelper reports whether a command line is one of mount(8) or mount.fuse3.
func isHelper(args []string) bool {
	if len(args) == 0 {
		return false
	}
	if helperNames[filepath.Base(args[0])] != "" {
		return true
	}
	return len(args) == 5 && args[3] == "-o" && !strings.HasPrefix(args[1], "-") && newApp().Command(args[1]) == nil
}

// runHelper mounts for mount(8), and returns an exit code of it.
func runHelper(args []string) int {
	call, err := parseHelper(args)
	if err == nil && call.namespace != "" {
		err = call.enter(args)
	}
	if err == nil && call.mayFail() {
		fmt.Fprintf(os.Stderr, "%s: %s does not exist, so nothing is mounted (nofail)\n", call.name, clean(call.image))
		return exitOK
	}
	if err == nil {
		err = newApp().Run(call.line())
	}
	if err != nil && !errors.Is(err, errReported) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", call.name, cleanLines(err.Error()))
	}
	switch exitCode(err) {
	case exitOK:
		return exitOK
	case exitUsage:
		return mountUsage
	}
	return mountFailed
}

// parseHelper reads a command line whose options may stand anywhere.
func parseHelper(args []string) (*helperCall, error) {
	h := &helperCall{name: filepath.Base(args[0])}
	var names []string
	for rest := args[1:]; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		if len(word) < 2 || word[0] != '-' {
			names = append(names, word)
			continue
		}
		var err error
		if rest, err = h.flags(word[1:], rest); err != nil {
			return h, err
		}
	}
	if len(names) != 2 {
		return h, usageError{fmt.Sprintf("%s IMAGE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]", h.name)}
	}
	h.image, h.mountpoint = names[0], names[1]
	return h, nil
}

// flags takes the letters of one word, and what follows it for a value.
func (h *helperCall) flags(letters string, rest []string) ([]string, error) {
	for i, c := range letters {
		switch c {
		case 's':
			h.sloppy = true
		case 'f':
			h.fake = true
		case 'v':
			h.verbose = true
		case 'n': // no entry in /etc/mtab: there never is one
		case 'N', 'o', 't':
			value := letters[i+1:]
			if value == "" && len(rest) > 0 {
				value, rest = rest[0], rest[1:]
			}
			return rest, h.value(c, value)
		default:
			return rest, usageError{fmt.Sprintf("-%c: no such option", c)}
		}
	}
	return rest, nil
}

func (h *helperCall) value(flag rune, value string) error {
	switch {
	case value == "":
		return usageError{fmt.Sprintf("-%c takes a value", flag)}
	case flag == 'N':
		h.namespace = value
	case flag == 'o':
		h.options = append(h.options, value)
	case value != "vdfs" && value != "fuse.vdfs":
		return usageError{fmt.Sprintf("-t %s: this mounts vdfs and fuse.vdfs", value)}
	}
	return nil
}

// mayFail reports whether the image is missing and fstab says that it may.
func (h *helperCall) mayFail() bool {
	says := func(list string) bool {
		words, _ := splitWords(list)
		return slices.Contains(words, "nofail")
	}
	return slices.ContainsFunc(h.options, says) && !exists(h.image)
}

// line is the same in this program's own words.
func (h *helperCall) line() []string {
	line := []string{"vdfs"}
	if h.verbose {
		line = append(line, "--verbose")
	}
	line = append(line, "mount", "--by-mount")
	if h.sloppy {
		line = append(line, "--sloppy")
	}
	if h.fake {
		line = append(line, "--fake")
	}
	for _, list := range h.options {
		line = append(line, "-o", list)
	}
	return append(line, "--", h.image, h.mountpoint)
}

// enter begins again in another mount namespace, named by a process or by a file. Only
// a thread that shares its folders with no other can go there, and what it executes
// is the whole process.
func (h *helperCall) enter(args []string) error {
	path := h.namespace
	if strings.Trim(path, "0123456789") == "" {
		path = fmt.Sprintf("/proc/%s/ns/mnt", path)
	}
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("-N: %w", err)
	}
	defer ns.Close()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("-N %s: unshare: %w", h.namespace, err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("-N %s: setns: %w", h.namespace, err)
	}
	again := []string{args[0], h.image, h.mountpoint}
	for _, list := range h.options {
		again = append(again, "-o", list)
	}
	for flag, is := range map[string]bool{"-s": h.sloppy, "-f": h.fake, "-v": h.verbose} {
		if is {
			again = append(again, flag)
		}
	}
	return fmt.Errorf("-N %s: exec: %w", h.namespace, syscall.Exec("/proc/self/exe", again, os.Environ()))
}
