package imgops

import (
	"cmp"
	"fmt"

	"vdfs/vdcore"
)

// Checked is what was found in one layer of a chain.
type Checked struct {
	Path   string
	Format string // "" when the image does not open
	// Thorough: the format has a check of its own. Otherwise opening the image, which
	// reads its tables, was all.
	Thorough bool
	Findings []vdcore.Finding
}

// Count returns how many findings are leaks and how many are damage.
func (c *Checked) Count() (leaks, damaged int) {
	for _, f := range c.Findings {
		switch {
		case f.Leak:
			leaks++
		case !f.Odd:
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
		list[i] = Checked{Path: l.Path, Format: l.Info().Format, Thorough: thorough, Findings: append(damage(l.Info()), found[i]...)}
	}
	return list, nil
}

// CheckBroken is the finding of an image that does not open, if the error is about a
// rule it breaks.
func CheckBroken(path string, err error) (Checked, bool) {
	code := vdcore.FlawCode(err)
	return Checked{Path: path, Thorough: true, Findings: []vdcore.Finding{{Code: code, Text: err.Error()}}}, code != ""
}

// damage is what opening the image found already.
func damage(info *vdcore.Info) (list []vdcore.Finding) {
	for _, d := range info.Damage {
		list = append(list, vdcore.Finding{
			Code: cmp.Or(vdcore.FlawCode(d.Err), "lost"), Bytes: d.Len,
			Text: fmt.Sprintf("guest bytes %d to %d cannot be read: %v", d.Off, d.Off+d.Len, d.Err),
		})
	}
	if info.DamageMore > 0 {
		list = append(list, vdcore.Finding{Code: "lost", Text: fmt.Sprintf("and %d more ranges cannot be read", info.DamageMore)})
	}
	return list
}
