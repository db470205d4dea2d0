package imgops

import (
	"fmt"

	"vdfs/vdcore"
)

// Checked is what was found in one layer of a chain.
type Checked struct {
	Layer *vdcore.Layer
	// Thorough: the format has a check of its own. Otherwise opening the image, which
	// reads its tables, was all.
	Thorough bool
	Findings []vdcore.Finding
}

// Count returns how many findings are leaks and how many are worse.
func (c *Checked) Count() (leaks, damaged int) {
	for _, f := range c.Findings {
		if f.Leak {
			leaks++
		} else {
			damaged++
		}
	}
	return leaks, damaged
}

// Check looks at every layer of an open chain; the base comes first.
func Check(c *vdcore.Chain) ([]Checked, error) {
	found, err := c.Check()
	if err != nil {
		return nil, err
	}
	list := make([]Checked, len(found))
	for i, l := range c.Layers() {
		_, thorough := l.Image.(vdcore.Checker)
		list[i] = Checked{Layer: l, Thorough: thorough, Findings: append(damage(l.Info()), found[i]...)}
	}
	return list, nil
}

// damage is what opening the image found already.
func damage(info *vdcore.Info) (list []vdcore.Finding) {
	for _, d := range info.Damage {
		list = append(list, vdcore.Finding{
			Code: "lost", Bytes: d.Len,
			Text: fmt.Sprintf("guest bytes %d to %d cannot be read: %v", d.Off, d.Off+d.Len, d.Err),
		})
	}
	if info.DamageMore > 0 {
		list = append(list, vdcore.Finding{Code: "lost", Text: fmt.Sprintf("and %d more ranges cannot be read", info.DamageMore)})
	}
	return list
}
