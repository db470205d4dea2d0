package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestContract: every cell of docs/contract.md says something, and the tests it names
// are there.
func TestContract(t *testing.T) {
	text, err := os.ReadFile("../docs/contract.md")
	if err != nil {
		t.Fatal(err)
	}
	have := testsOf(t)
	named := regexp.MustCompile(`\b([a-z]+)\.(Test[A-Za-z0-9]+)`)
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) < 2 || strings.TrimSpace(cells[0]) == "callback" {
			continue
		}
		rows++
		if len(cells) != 6 {
			t.Errorf("%d cells: %s", len(cells), line)
			continue
		}
		for i, c := range cells {
			tests := named.FindAllString(c, -1)
			if strings.TrimSpace(c) == "" || i > 2 && len(tests) == 0 {
				t.Errorf("%s: nothing in column %d", cells[0], i+1)
			}
			for _, name := range tests {
				if !have[name] {
					t.Errorf("%s: no test %s", cells[0], name)
				}
			}
		}
	}
	if rows < 30 {
		t.Errorf("only %d callbacks", rows)
	}
}

// testsOf lists all tests as package.Name.
func testsOf(t *testing.T) map[string]bool {
	t.Helper()
	have := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	for _, pattern := range []string{"../*/*_test.go", "../*/*/*_test.go", "../*/*/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			folder, err := filepath.Abs(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
				have[filepath.Base(folder)+"."+m[1]] = true
			}
		}
	}
	return have
}
