package fs

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ServedBy finds the process that serves the mount with a device number from the
// mount table, without asking the mount: another user's does not answer, and a
// hung one neither. The kernel numbers connections by the minor device number and
// shows them in fdinfo (seen on 6.18, not in older ones); 0 when nothing is found.
func ServedBy(device string) (pid int) {
	_, minor, _ := strings.Cut(device, ":")
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != "/dev/fuse" {
			continue
		}
		proc := filepath.Dir(filepath.Dir(link))
		text, err := os.ReadFile(filepath.Join(proc, "fdinfo", filepath.Base(link)))
		if err != nil || connectionOf(string(text)) != minor {
			continue
		}
		if pid, err = strconv.Atoi(filepath.Base(proc)); err == nil {
			return pid
		}
	}
	return 0
}

// connectionOf reads the connection's number from a text like "pos:\t0\n…".
func connectionOf(fdinfo string) string {
	for line := range strings.Lines(fdinfo) {
		if key, value, _ := strings.Cut(line, ":"); key == "fuse_connection" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
