package evidence

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// checkLines counts the lines of an audit file that are whole, and those that are not.
func checkLines(t *testing.T, path string, broken, whole int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var h head
		if json.Unmarshal([]byte(line), &h) != nil || h.Event == "" {
			broken--
		} else {
			whole--
		}
	}
	if broken != 0 || whole != 0 {
		t.Errorf("%d broken and %d whole lines too few", broken, whole)
	}
}
