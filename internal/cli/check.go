package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "look for damage in an image and its parents, and repair the image",
		ArgsUsage: "IMAGE",
		Description: "Reads all tables of every layer and says what is wrong with them. Leaks, space that is\n" +
			"taken and holds nothing, are harmless: a crash can leave some, and they do not count as\n" +
			"damage. Nothing is changed without --repair, which says what it will do, saves what it\n" +
			"replaces in IMAGE.vdfs-backup-1 (or the next free number), and then mends IMAGE, never its\n" +
			"parents. What cannot be mended is said, and the exit code stays 4. Of a machine all disks are\n" +
			"checked, and the digests in the manifest of an OVF or OVA.",
		Flags:  append(parentFlags(), append(repairFlags(), diskFlag(), &cli.BoolFlag{Name: "json", Usage: "as JSON"})...),
		Action: runCheck,
	}
}

func runCheck(c *cli.Context) error {
	args, err := arguments(c, "IMAGE")
	if err != nil {
		return err
	}
	o, err := openOptions(c)
	if err != nil {
		return err
	}
	repairing, err := wantsRepair(c)
	if err != nil {
		return err
	}
	if repairing {
		if err := refuseMachine(c, o, args[0]); err != nil {
			return err
		}
		return runRepair(c, args[0], o)
	}
	if wholeMachine(c, args[0]) {
		return runMachineCheck(c, args[0], o)
	}
	chain, broken := openNamed(c, args[0], o)
	if broken != nil { // list what is wrong, and fail with what is in the way
		o.AllowIncomplete = true
		if chain, err = openNamed(c, args[0], o); err != nil {
			return errors.Join(printBroken(c, args[0], err), broken)
		}
	}
	defer chain.Close()
	warnBut(chain, broken)
	list, err := imgops.Check(chain)
	if err != nil {
		return err
	}
	err = printFindings(c, list)
	if broken != nil {
		return broken
	}
	if _, damaged := count(list); damaged > 0 && err == nil {
		err = fmt.Errorf("%s: %w: %d findings", args[0], vdcore.ErrCorrupt, damaged)
	}
	return err
}

func printFindings(c *cli.Context, list []imgops.Checked) error {
	if c.Bool("json") {
		return printJSON(c.App.Writer, checkJSON(list))
	}
	return printChecked(c.App.Writer, list)
}

// printBroken names the rule that keeps an image from being opened.
func printBroken(c *cli.Context, path string, err error) error {
	found, ok := imgops.CheckBroken(path, err)
	if !ok {
		return nil
	}
	return printFindings(c, []imgops.Checked{found})
}

// count adds up the findings of all layers.
func count(list []imgops.Checked) (leaks, damaged int) {
	for _, l := range list {
		some, more := l.Count()
		leaks, damaged = leaks+some, damaged+more
	}
	return leaks, damaged
}

// printChecked prints the layers, the topmost first.
func printChecked(w io.Writer, list []imgops.Checked) error {
	for i := len(list) - 1; i >= 0; i-- {
		if err := printLayerChecked(w, &list[i]); err != nil {
			return err
		}
	}
	return nil
}

func printLayerChecked(w io.Writer, l *imgops.Checked) error {
	leaks, damaged := l.Count()
	verdict := "no damage"
	switch {
	case damaged > 0:
		verdict = fmt.Sprintf("DAMAGED, %d findings", damaged)
	case !l.Thorough:
		verdict = "opens; " + l.Format + " images have no more to check"
	}
	if leaks > 0 {
		verdict += fmt.Sprintf(", %d leaks", leaks)
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", clean(l.Path), verdict)
	for _, f := range l.Findings {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %s (%s): %s\n", kindOf(f), f.Code, clean(f.Text))
		}
	}
	return err
}

func kindOf(f vdcore.Finding) string {
	switch {
	case f.Leak:
		return "leak"
	case f.Odd:
		return "odd"
	}
	return "damage"
}

type checkedLayer struct {
	Path     string         `json:"path"`
	Format   string         `json:"format"`
	Thorough bool           `json:"thorough"`
	Findings []checkFinding `json:"findings"`
}

type checkFinding struct {
	Code  string `json:"code"`
	Text  string `json:"text"`
	Leak  bool   `json:"leak"`
	Odd   bool   `json:"odd"`
	Bytes int64  `json:"bytes"`
}

func checkJSON(list []imgops.Checked) map[string]any {
	layers := []checkedLayer{}
	for _, l := range list {
		row := checkedLayer{l.Path, l.Format, l.Thorough, []checkFinding{}}
		for _, f := range l.Findings {
			row.Findings = append(row.Findings, checkFinding(f))
		}
		layers = append(layers, row)
	}
	leaks, damaged := count(list)
	return map[string]any{"schema": 1, "layers": layers, "leaks": leaks, "damaged": damaged}
}
