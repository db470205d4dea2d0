package vdcore

import "errors"

// Finding is one thing a check has to say of an image.
type Finding struct {
	Code string // stable, listed in docs/check-codes.md: "leaked-slot", "redundant-table" …
	Text string // one sentence
	// Leak: space is taken and nothing is wrong with the content.
	Leak bool
	// Odd: a field holds what it should not, and nothing of the content depends on it.
	Odd   bool
	Bytes int64 // that are concerned, 0 when that means nothing
}

// flaw is an error with the code of the invariant that is broken.
type flaw struct {
	error
	code string
}

func (f flaw) Unwrap() error { return f.error }

// Flaw gives an error the code a check tells it by.
func Flaw(code string, err error) error { return flaw{err, code} }

// FlawCode is the code of an error, "" when it has none.
func FlawCode(err error) string {
	var f flaw
	if errors.As(err, &f) {
		return f.code
	}
	return ""
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
