package cli

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
)

func chainCommand() *cli.Command {
	return &cli.Command{
		Name: "chain", Usage: "show the tree of layers an image belongs to",
		ArgsUsage: "IMAGE",
		Description: "The base comes first, what was made from it below. An arrow marks the layers of the\n" +
			"named image; others found beside it are listed too. Every link carries a verdict:\n" +
			"ok, modified (the parent was changed later), forced, or missing.",
		Flags:  append(openFlags(), &cli.BoolFlag{Name: "json", Usage: "as JSON"}),
		Action: runChain,
	}
}

func runChain(c *cli.Context) error {
	args, err := arguments(c, "IMAGE")
	if err != nil {
		return err
	}
	o, err := openOptions(c)
	if err != nil {
		return err
	}
	chain, broken := openNamed(c, args[0], o)
	if broken != nil { // show how far it goes, and fail with what is wrong
		o.AllowIncomplete = true
		if chain, err = openNamed(c, args[0], o); err != nil {
			return broken
		}
	}
	defer chain.Close()
	warn(chain)
	if c.Bool("json") {
		err = printJSON(c.App.Writer, map[string]any{"schema": 1, "tree": treeJSON(chain.Tree())})
	} else {
		err = printTree(c.App.Writer, chain.Tree(), "", "")
	}
	if broken != nil {
		return broken
	}
	return err
}

// printTree draws an image and what was made from it. first precedes the image's
// own line, rest the lines below it.
func printTree(w io.Writer, t *vdcore.Tree, first, rest string) error {
	mark := " "
	if t.InChain {
		mark = ">"
	}
	_, err := fmt.Fprintf(w, "%s %s%s  %s\n", mark, first, clean(filepath.Base(t.Path)), describe(t))
	for i, child := range t.Children {
		branch, below := "├─ ", "│  "
		if i == len(t.Children)-1 {
			branch, below = "└─ ", "   "
		}
		if err == nil {
			err = printTree(w, child, rest+branch, rest+below)
		}
	}
	return err
}

// describe is one image in half a line.
func describe(t *vdcore.Tree) string {
	s := fmt.Sprintf("[%s] %s %s, %s", t.Link.Verdict, t.Info.Format, t.Info.Variant, size(t.Info.Capacity))
	if t.Info.UUID != uuid.Nil {
		s += fmt.Sprintf(", UUID %s", t.Info.UUID)
	} else if t.Info.HasCID {
		s += fmt.Sprintf(", CID %08x", t.Info.CID)
	}
	for _, snap := range t.Snapshots {
		s += fmt.Sprintf(", snapshot %q", clean(snap.Name))
	}
	return s
}

type treeNode struct {
	Path      string                       `json:"path"`
	Format    string                       `json:"format"`
	Variant   string                       `json:"variant"`
	Capacity  int64                        `json:"capacity"`
	InChain   bool                         `json:"in_chain"`
	Verdict   string                       `json:"verdict"`
	Note      string                       `json:"note,omitempty"`
	Snapshots []vdcore.SnapshotDescription `json:"snapshots,omitempty"`
	Children  []treeNode                   `json:"children,omitempty"`
}

func treeJSON(t *vdcore.Tree) treeNode {
	n := treeNode{
		Path: t.Path, Format: t.Info.Format, Variant: t.Info.Variant, Capacity: t.Info.Capacity,
		InChain: t.InChain, Verdict: string(t.Link.Verdict), Note: t.Link.Note,
	}
	for _, s := range t.Snapshots {
		n.Snapshots = append(n.Snapshots, s.Describe())
	}
	for _, c := range t.Children {
		n.Children = append(n.Children, treeJSON(c))
	}
	return n
}
