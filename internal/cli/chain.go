package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

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
	warnBut(chain, broken)
	if c.Bool("json") {
		err = printJSON(c.App.Writer, map[string]any{"schema": 1, "tree": treeJSON(chain.Tree())})
	} else {
		err = printTree(newPage(c.App.Writer), chain)
	}
	if broken != nil {
		return broken
	}
	return err
}

// printTree draws the base of a chain and all that was made from it, with the bars of
// the chain's own layers. A terminal that is too narrow for the identities, or for the
// formats as well, goes without: info has them.
func printTree(p *page, chain *vdcore.Chain) error {
	t := &treeTable{chain: chain, bars: takeBars(chain)}
	root := chain.Tree()
	first := ""
	if root.Link.Verdict == vdcore.LinkMissing {
		t.rows = append(t.rows, []cell{{text: "? the missing parent", style: red}, {}, {}, {}, {}, {text: clean(wantedParent(root.Info))}})
		first = "└─ "
	}
	t.add(root, first, strings.Repeat(" ", columns(first)))
	for _, column := range []int{treeIdentity, treeFormat} {
		if p.width > 0 && tableWidth(t.rows) > p.width {
			for i := range t.rows {
				t.rows[i] = slices.Delete(t.rows[i], column, column+1)
			}
		}
	}
	return p.fit(t.rows, 0)
}

// Columns of a tree that a narrow terminal goes without.
const (
	treeFormat   = 2
	treeIdentity = 5
)

// treeIndent is the deepest an only child is indented, columns: the next one is put
// below it, or hundreds of snapshots would not fit any terminal.
const treeIndent = 15

// treeTable is a tree as the rows of a table.
type treeTable struct {
	chain *vdcore.Chain
	bars  *bars
	rows  [][]cell
}

// add enters an image and what was made from it. first precedes the image's own line,
// rest the lines below it.
func (t *treeTable) add(n *vdcore.Tree, first, rest string) {
	mark, s := "  ", plain
	if n.InChain {
		mark, s = "> ", bold
	}
	row := []cell{
		{text: mark + first + treeName(n), style: s}, {text: "[" + string(n.Link.Verdict) + "]", style: verdictStyle(n.Link.Verdict)},
		{text: clean(n.Info.Format + " " + n.Info.Variant)}, {text: size(n.Info.Capacity), right: true}, {}, {text: identity(n.Info)},
	}
	if k := slices.IndexFunc(t.chain.Layers(), func(l *vdcore.Layer) bool { return l.Path == n.Path }); n.InChain && k >= 0 {
		row[4] = t.bars.cell(k)
	}
	t.rows = append(t.rows, row)
	for i, child := range n.Children {
		branch, below := "├─ ", "│  "
		if i == len(n.Children)-1 {
			branch, below = "└─ ", "   "
		}
		if len(n.Children) == 1 && columns(rest) >= treeIndent {
			t.add(child, first, rest)
			continue
		}
		t.add(child, rest+branch, rest+below)
	}
}

// treeName is an image's file, and the snapshots of a machine it is the state of.
func treeName(n *vdcore.Tree) string {
	name := clean(filepath.Base(n.Path))
	for _, s := range n.Snapshots {
		name += fmt.Sprintf(" %q", clean(s.Name))
	}
	return name
}

// identity is how children name an image.
func identity(i *vdcore.Info) string {
	switch {
	case i.UUID != uuid.Nil:
		return "UUID " + i.UUID.String()
	case i.HasCID:
		return fmt.Sprintf("CID %08x", i.CID)
	}
	return ""
}

// wantedParent is how an image names the parent it has none of.
func wantedParent(i *vdcore.Info) string {
	switch p := i.Parent; {
	case p == nil:
		return ""
	case p.UUID != uuid.Nil:
		return "UUID " + p.UUID.String()
	default:
		return fmt.Sprintf("CID %08x, %s", p.CID, p.Hint)
	}
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
