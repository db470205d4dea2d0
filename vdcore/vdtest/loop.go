package vdtest

import "testing"

// Loop skips a crash loop under the race detector, which makes it ten times as slow and
// finds nothing in what runs one after the other; make test runs it without.
func Loop(t *testing.T) {
	if raced {
		t.Skip("a loop that runs without the race detector")
	}
}
