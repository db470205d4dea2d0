package vmdk

import (
	"bytes"
	"fmt"
	"slices"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

var _ vdcore.Checker = (*image)(nil)

// Check looks at what only matters for writing, and to other programs: whether two
// things share a place, whether both sets of tables say the same, and what of the
// files holds nothing.
func (i *image) Check() ([]vdcore.Finding, error) {
	var list []vdcore.Finding
	for _, g := range i.sparse() {
		h, ok := g.head.(*hostedHeader)
		if !ok || g.packed {
			continue
		}
		found, err := g.check(h)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.name, err)
		}
		list = append(list, found...)
	}
	return list, nil
}

// check works on a copy: its pass over the tables writes to g.state.
func (g grains) check(h *hostedHeader) (list []vdcore.Finding, err error) {
	g.state = slices.Clone(g.state)
	g.findSpare(h)
	c, err := g.claimTables()
	if err != nil {
		return []vdcore.Finding{{Code: "tables", Text: fmt.Sprintf("%s: %v", g.name, err)}}, nil
	}
	spares, err := g.checkSpares(h)
	if err != nil {
		return nil, err
	}
	pass := tablePass{grains: &g, report: &report{info: &vdcore.Info{}}, taken: newSeen(g.grain, g.length), claims: c}
	if err := pass.run(); err != nil {
		return nil, err
	}
	if c.why != nil {
		list = append(list, vdcore.Finding{Code: "shared-grain", Text: c.why.Error()})
	}
	return append(append(list, spares...), g.leaks(h, c)...), nil
}

// checkSpares compares the redundant tables with the primary ones. In a file that
// was not closed they may differ; writing to it mends them.
func (g *grains) checkSpares(h *hostedHeader) ([]vdcore.Finding, error) {
	if g.spare == 0 {
		return nil, nil
	}
	differ := int64(0)
	for t := range g.tableCount() {
		same, err := g.sameTable(t)
		if err != nil {
			return nil, err
		}
		if !same {
			differ++
		}
	}
	if differ == 0 {
		return nil, nil
	}
	text := fmt.Sprintf("%s: %d redundant grain tables differ from the primary ones, which are used", g.name, differ)
	if h.Unclean != 0 {
		text += "; the file was not closed, and the next write mends it"
	}
	return []vdcore.Finding{{Code: "redundant-table", Text: text, Leak: h.Unclean != 0}}, nil
}

func (g *grains) sameTable(t int64) (bool, error) {
	entry, err := g.dirEntry(g.dir, t)
	if err != nil {
		return false, err
	}
	spare, err := g.dirEntry(g.spare, t)
	if err != nil || entry == 0 || spare == 0 {
		return entry == spare, err
	}
	a, b := make([]byte, g.tableSize(t)), make([]byte, g.tableSize(t))
	if err := storage.ReadFull(g.file, a, int64(entry)*sector); err != nil {
		return false, err
	}
	err = storage.ReadFull(g.file, b, int64(spare)*sector)
	return bytes.Equal(a, b), err
}

// leaks are what lies behind everything that is claimed and, in a file that was not
// closed, between: there it is room that will be used again, but not before that
// has been given back to the host.
func (g *grains) leaks(h *hostedHeader, c *claims) (list []vdcore.Finding) {
	if n := g.length - c.end; n > 0 {
		list = append(list, vdcore.Finding{Code: "leaked-tail", Leak: true, Bytes: n,
			Text: fmt.Sprintf("%s: %d bytes at its end hold nothing", g.name, n)})
	}
	if h.Unclean == 0 || c.why != nil {
		return list
	}
	between := int64(0)
	for _, a := range c.gaps(h.overhead(c.end)) {
		between += a.to - a.from
	}
	if between > 0 {
		list = append(list, vdcore.Finding{Code: "leaked-grain", Leak: true, Bytes: between,
			Text: fmt.Sprintf("%s: room for %d grains between those in use may hold something of no use", g.name, between/g.grain)})
	}
	return list
}
