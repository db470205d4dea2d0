package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

func parseMount(c *cli.Context) (*mountRequest, error) {
	args := c.Args().Slice()
	for _, a := range args {
		if strings.HasPrefix(a, "-") && !exists(a) {
			return nil, usageError{fmt.Sprintf("%s: options go before the images", a)}
		}
	}
	if len(args) < 2 {
		return nil, usageError{"mount takes IMAGE… MOUNTPOINT; see vdfs mount --help"}
	}
	var err error
	req := &mountRequest{images: args[:len(args)-1], disk: c.String("disk")}
	if req.options, err = parseMountOptions(c, c.StringSlice("o")); err != nil {
		return nil, err
	}
	if req.open, err = openOptions(c); err != nil {
		return nil, err
	}
	if err = req.parseWriting(c); err != nil {
		return nil, err
	}
	if err = req.parseKernelReads(c.String("kernel-reads")); err != nil {
		return nil, err
	}
	if req.mountpoint, err = filepath.Abs(args[len(args)-1]); err != nil {
		return nil, err
	}
	return req, req.parseWitness(c)
}

// parseWriting says whether, and where to, the mount is written.
func (r *mountRequest) parseWriting(c *cli.Context) error {
	r.open.Write = c.Bool("rw") || r.options.rw
	r.open.BreakChildren = c.Bool("break-children")
	r.overlay = c.String("overlay")
	switch {
	case r.options.ro && (r.open.Write || r.overlay != ""):
		return usageError{"-o ro goes neither with --rw nor with --overlay"}
	case r.open.Write && r.overlay != "":
		return usageError{"--rw writes to the image itself and --overlay leaves it as it is: choose one"}
	case c.IsSet("overlay") && r.overlay == "":
		return usageError{"--overlay takes a file name, or " + overlayTemp}
	case r.open.FillZero && (r.open.Write || r.overlay != ""):
		return usageError{"--fill=zero does not go with writing: zeros made up for what cannot be read would stay"}
	case r.overlay != "" && len(r.images) != 1:
		return usageError{"--overlay goes with one image"}
	case r.open.BreakChildren && !r.open.Write:
		return usageError{"--break-children goes with --rw"}
	case r.overlay == "" || r.overlay == overlayTemp:
		return nil
	}
	var err error
	r.overlay, err = filepath.Abs(r.overlay) // the daemon leaves its folder
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
