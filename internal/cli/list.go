package cli

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"vdfs/fs"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list what is mounted",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "as JSON"}},
		Action: runList,
	}
}

// The states of a mount.
const (
	stateServing = "serving"
	stateStale   = "stale"   // its daemon is gone
	stateHung    = "hung"    // its daemon does not answer
	statePrivate = "private" // another user's, and not shared with this one
	stateHidden  = "hidden"  // another mount lies on top
	stateUnknown = "unknown"
)

type listRow struct {
	Mountpoint string   `json:"mountpoint"`
	Images     []string `json:"images"`
	// Paths is how the disk of each image is read; none where nobody answers.
	Paths []fs.PathTaken `json:"paths,omitempty"`
	PID   int            `json:"pid,omitempty"`
	State string         `json:"state"`
}

func runList(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	rows, err := listMounts()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, map[string]any{"schema": 1, "mounts": rows})
	}
	table := [][]cell{}
	for _, r := range rows {
		pid := "-"
		if r.PID > 0 {
			pid = strconv.Itoa(r.PID)
		}
		table = append(table, []cell{{text: clean(r.Mountpoint)}, {text: r.State}, {text: pid}, {text: clean(r.disks())}})
	}
	return newPage(c.App.Writer).table(table)
}

// disks names the images, and how they are read where that is known.
func (r *listRow) disks() string {
	list := slices.Clone(r.Images)
	for i, p := range r.Paths {
		list[i] += " (" + p.Taken + ")"
	}
	return strings.Join(list, ", ")
}

func listMounts() ([]listRow, error) {
	mounts, err := fs.Mounts()
	if err != nil {
		return nil, err
	}
	rows := []listRow{}
	for _, m := range mounts {
		p := probeResult{state: stateHidden}
		if top, _ := fs.MountAt(m.Mountpoint); top != nil && top.Device == m.Device {
			p = probe(m.Mountpoint)
		}
		if p.pid == 0 && p.state != stateStale {
			p.pid = fs.ServedBy(m.Device)
		}
		if p.images == nil {
			p.images = []string{m.Source}
		}
		rows = append(rows, listRow{m.Mountpoint, p.images, p.paths, p.pid, p.state})
	}
	return rows, nil
}

// probeResult is what a mount says of itself.
type probeResult struct {
	state  string
	pid    int
	images []string
	paths  []fs.PathTaken
}

// probeTimeout is how long a mount may take to answer; then its daemon hangs.
const probeTimeout = 2 * time.Second

// probe asks a mount who serves it. A daemon that hangs must not take this
// process with it, so the asking is left behind when it takes too long.
func probe(path string) probeResult {
	result := make(chan probeResult, 1)
	go func() { result <- ask(path) }()
	select {
	case r := <-result:
		return r
	case <-time.After(probeTimeout):
		return probeResult{state: stateHung}
	}
}

func ask(path string) probeResult {
	text, err := getxattr(path, fs.XattrPID)
	switch {
	case errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.ECONNABORTED):
		return probeResult{state: stateStale}
	case errors.Is(err, unix.EACCES):
		return probeResult{state: statePrivate}
	case err != nil:
		return probeResult{state: stateUnknown}
	}
	r := probeResult{state: stateServing}
	if r.pid, err = strconv.Atoi(string(text)); err != nil {
		r.state = stateUnknown
	}
	if text, err = getxattr(path, fs.XattrImages); err == nil {
		if json.Unmarshal(text, &r.images) != nil {
			r.images = nil // the mount table names one
		}
	}
	if text, err = getxattr(path, fs.XattrPaths); err == nil {
		if json.Unmarshal(text, &r.paths) != nil || len(r.paths) != len(r.images) {
			r.paths = nil
		}
	}
	return r
}

func getxattr(path, name string) ([]byte, error) {
	buf := make([]byte, 64<<10) // the most an attribute can hold
	n, err := unix.Lgetxattr(path, name, buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}
