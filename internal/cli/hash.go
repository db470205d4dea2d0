package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
	"vdfs/vdcore/storage"
)

func hashCommand() *cli.Command {
	return &cli.Command{
		Name: "hash", Usage: "hash every file of images and their parents, and the flat disks",
		ArgsUsage: "IMAGE…",
		Description: "Prints the hash of every file of the chain and, as a comment, of the disk as the topmost image\n" +
			"shows it: sha256sum -c takes what is printed; with several algorithms, cksum -c does. With\n" +
			"--manifest all of it goes to a file, which --verify, here and of vdfs mount, compares with what\n" +
			"is there: a difference is exit code 4 and names the file. Nothing is changed, access times\n" +
			"included, where the images are one's own.",
		Flags: append(append(parentFlags(), incompleteFlags()...),
			&cli.StringSliceFlag{Name: "algorithm", Aliases: []string{"a"}, Value: cli.NewStringSlice(imgops.DefaultAlgorithm),
				Usage: "hash by `NAME`: " + strings.Join(imgops.Algorithms(), ", ") + "; several with commas between"},
			&cli.BoolFlag{Name: "layers", Usage: "hash the flat disk of every layer, not of the topmost one alone"},
			&cli.BoolFlag{Name: "files", Usage: "hash files only, no disk"},
			&cli.StringFlag{Name: "manifest", Usage: "write what was found to `FILE`"},
			&cli.BoolFlag{Name: "force", Usage: "replace a manifest that is there"},
			&cli.StringFlag{Name: "verify", Usage: "compare with the manifest `FILE` instead"},
			&cli.BoolFlag{Name: "json", Usage: "as JSON"}),
		Action: runHash,
	}
}

func runHash(c *cli.Context) error {
	if !c.Args().Present() {
		return usageError{"hash takes IMAGE…; see vdfs hash --help"}
	}
	o, err := hashOptions(c)
	if err == nil {
		err = refuseMachine(c, vdcore.Options{Format: c.String("format")}, c.Args().Slice()...)
	}
	if err != nil {
		return err
	}
	if c.String("verify") != "" {
		return verifyImages(c, c.Args().Slice())
	}
	return hashImages(c, c.Args().Slice(), o)
}

func hashOptions(c *cli.Context) (imgops.HashOptions, error) {
	o := imgops.HashOptions{Version: version(), Progress: progress(c, "hashing")}
	for _, n := range strings.Split(strings.Join(c.StringSlice("algorithm"), ","), ",") {
		if !slices.Contains(imgops.Algorithms(), n) {
			return o, usageError{fmt.Sprintf("--algorithm %s: there are %s", n, strings.Join(imgops.Algorithms(), ", "))}
		}
		if !slices.Contains(o.Algorithms, n) {
			o.Algorithms = append(o.Algorithms, n)
		}
	}
	verifies := c.IsSet("verify")
	switch {
	case c.Bool("layers") && c.Bool("files"):
		return o, usageError{"--layers adds disks and --files leaves them out: choose one"}
	case verifies && (c.IsSet("manifest") || c.IsSet("algorithm") || c.Bool("layers")):
		return o, usageError{"--verify compares what the manifest has: it goes neither with --manifest nor with --algorithm or --layers"}
	case c.Bool("force") && !c.IsSet("manifest"):
		return o, usageError{"--force goes with --manifest"}
	case c.IsSet("manifest") && c.String("manifest") == "", verifies && c.String("verify") == "":
		return o, usageError{"--manifest and --verify take a file name"}
	case c.Bool("layers"):
		o.Disks = imgops.AllDisks
	case c.Bool("files"):
		o.Disks = imgops.NoDisk
	}
	return o, nil
}

func hashImages(c *cli.Context, images []string, o imgops.HashOptions) (err error) {
	var chains []*vdcore.Chain
	defer func() { err = errors.Join(err, closeChains(chains)) }()
	for _, image := range images {
		chain, err := openChain(c, image)
		if err != nil {
			return err
		}
		chains = append(chains, chain)
	}
	file := c.String("manifest")
	if file != "" {
		if err := imgops.RefuseManifest(chains, file, c.Bool("force")); err != nil {
			return err
		}
	}
	ctx, stop := untilSignal(c)
	defer stop()
	m, err := imgops.Hash(ctx, chains, o)
	if err != nil {
		return explainHash(err)
	}
	if file != "" {
		if err := imgops.WriteManifest(file, m, c.Bool("force")); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, m)
	}
	return printHashes(c.App.Writer, chains, m, o.Algorithms)
}

func closeChains(chains []*vdcore.Chain) error {
	var errs []error
	for _, c := range chains {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// explainHash adds to what went wrong what to do.
func explainHash(err error) error {
	switch {
	case errors.Is(err, vdcore.ErrLost):
		return fmt.Errorf("%w; --files hashes the files alone, --fill=zero takes zeros there", err)
	case errors.Is(err, context.Canceled):
		return codedError{errors.New("stopped before the end; nothing was written"), exitIO}
	}
	return err
}

// printHashes prints files as sha256sum does, or as sha256sum --tag where there are
// several algorithms, and disks as comments.
func printHashes(w io.Writer, chains []*vdcore.Chain, m *imgops.Manifest, algorithms []string) error {
	here, err := storage.Resolve(".")
	if err != nil {
		return err
	}
	printed := map[string]bool{}
	var lines []string
	for i, chain := range chains {
		for n, l := range m.Images[i].Layers {
			layer := chain.Layers()[n]
			for k, f := range layer.Image.Files() {
				if path := f.Path(); !printed[path] {
					printed[path] = true
					lines = append(lines, hashLines(relativeTo(here, path), l.Files[k].Digests, algorithms)...)
				}
			}
			if l.Disk != nil {
				for _, line := range hashLines("disk.raw of "+relativeTo(here, layer.Path), l.Disk, algorithms) {
					lines = append(lines, "# "+strings.TrimPrefix(line, `\`))
				}
			}
		}
	}
	_, err = fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// hashLines are those of one content. A name with a line feed in it is escaped, and the
// line begins with a backslash, as sha256sum has it.
func hashLines(name string, d imgops.Digests, algorithms []string) (lines []string) {
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
	mark := ""
	if escaped != name {
		mark = `\`
	}
	for _, a := range algorithms {
		line := fmt.Sprintf("%s%s  %s", mark, d[a], escaped)
		if len(algorithms) > 1 {
			line = fmt.Sprintf("%s%s (%s) = %s", mark, strings.ToUpper(a), escaped, d[a])
		}
		lines = append(lines, line)
	}
	return lines
}

// relativeTo is a path as somebody in a folder names it, as long as it lies there.
func relativeTo(folder, path string) string {
	if rel, err := filepath.Rel(folder, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// verifiedRow is what became of one file or disk.
type verifiedRow struct {
	File   string `json:"file"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// verifyImages compares images with a manifest: their files, and then, as these
// are as they were, what disks it has.
func verifyImages(c *cli.Context, images []string) error {
	m, err := imgops.ReadManifest(c.String("verify"))
	if err != nil {
		return err
	}
	o, err := openOptions(c)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(c)
	defer stop()
	rows := []verifiedRow{}
	var failed []error
	for _, image := range images {
		v, err := imgops.Verify(ctx, m, image, o, progress(c, "verifying"))
		if err != nil {
			return explainHash(err)
		}
		rows = append(rows, rowsOf(v)...)
		if err = v.Err(); err == nil {
			err = verifyOpened(ctx, c, v, image)
		}
		failed = append(failed, err)
	}
	bad := errors.Join(failed...)
	if c.Bool("json") {
		return errors.Join(printJSON(c.App.Writer, map[string]any{"schema": 1, "ok": bad == nil, "files": rows}), bad)
	}
	return errors.Join(printVerified(c.App.Writer, rows), bad)
}

func rowsOf(v *imgops.Verified) (rows []verifiedRow) {
	for _, f := range v.Files {
		row := verifiedRow{File: f.Path, OK: f.Err == nil}
		if f.Err != nil {
			row.Reason = f.Err.Error()
		}
		rows = append(rows, row)
	}
	return rows
}

// verifyOpened sees that the chain consists of the files that were verified, and shows
// the same disks.
func verifyOpened(ctx context.Context, c *cli.Context, v *imgops.Verified, image string) error {
	chain, err := openChain(c, image)
	if err != nil {
		return err
	}
	if err = v.Opened(chain.Layers()); err == nil && !c.Bool("files") {
		err = v.VerifyDisks(ctx, chain, progress(c, "verifying disks"))
	}
	return errors.Join(explainHash(err), chain.Close())
}

// printVerified prints as sha256sum -c does; why not, the error says.
func printVerified(w io.Writer, rows []verifiedRow) error {
	here, err := storage.Resolve(".")
	for _, r := range rows {
		verdict := "OK"
		if !r.OK {
			verdict = "FAILED"
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "%s: %s\n", clean(relativeTo(here, r.File)), verdict)
		}
	}
	return err
}
