package vdcore

// Finding is one thing a check has to say of an image.
type Finding struct {
	Code string // stable: "leaked-block", "spare-table" …
	Text string // one sentence
	// Leak: space is taken and nothing is wrong with the content.
	Leak  bool
	Bytes int64 // that are concerned, 0 when that means nothing
}

// Checker is an image that can be asked for more than opening it tells: space that
// nothing leads to, copies of tables that differ.
type Checker interface{ Check() ([]Finding, error) }

// Check asks every layer that can be asked, base first; a layer that cannot has no
// findings.
func (c *Chain) Check() ([][]Finding, error) {
	all := make([][]Finding, len(c.layers))
	for i, l := range c.layers {
		ch, ok := l.Image.(Checker)
		if !ok {
			continue
		}
		var err error
		if all[i], err = ch.Check(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
