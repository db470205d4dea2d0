package cli

import (
	"strings"
	"testing"
)

// TestColumns: texts take the columns a terminal gives them.
func TestColumns(t *testing.T) {
	for text, want := range map[string]int{"disk": 4, "Größe": 5, "Gro\u0308ße": 5, "磁盘": 4, "👩‍💻": 2, "": 0} {
		if got := columns(text); got != want {
			t.Errorf("%q: %d columns, want %d", text, got, want)
		}
	}
}

// TestTable: columns line up whatever letters they hold, with colours and without.
func TestTable(t *testing.T) {
	rows := [][]cell{
		{{text: "磁盘.vdi"}, {text: "1 B", right: true}, {text: "x", style: red}},
		{{text: "Größe"}, {text: "10 MiB", right: true}, {text: "y"}},
	}
	const want = "磁盘.vdi     1 B  x\nGröße     10 MiB  y\n"
	for _, colour := range []bool{false, true} {
		var b strings.Builder
		if err := (&page{Writer: &b, colour: colour}).table(rows); err != nil {
			t.Fatal(err)
		}
		if got := strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(b.String()); got != want {
			t.Errorf("colour %v:\n%swant\n%s", colour, got, want)
		}
		if strings.Contains(b.String(), "\x1b") != colour {
			t.Errorf("colour %v: %q", colour, b.String())
		}
	}
}

// TestShorten keeps both ends, and never splits a letter.
func TestShorten(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{{"disk.vdi", 8, "disk.vdi"}, {"disk.vdi", 7, "dis…vdi"}, {"磁盘磁盘磁盘", 7, "磁盘…盘"}, {"abcdef", 1, "…"}, {"e\u0301e\u0301e\u0301e\u0301", 3, "e\u0301…e\u0301"}} {
		got := shorten(c.text, c.width)
		if columns(got) > c.width {
			t.Errorf("%q in %d: %q takes %d", c.text, c.width, got, columns(got))
		}
		if got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

// TestWrap: no line is too long, and nothing is lost but blanks.
func TestWrap(t *testing.T) {
	for _, text := range []string{"a b c", "one two three four five", "/very/long/path/with/many/parts.vdi", strings.Repeat("磁", 30), "x " + strings.Repeat("y", 50), ""} {
		for _, width := range []int{3, 10, 20} {
			lines := wrap(text, width)
			for _, l := range lines {
				if columns(l) > width {
					t.Errorf("%q takes %d columns of %d", l, columns(l), width)
				}
			}
			if got := strings.ReplaceAll(strings.Join(lines, ""), " ", ""); got != strings.ReplaceAll(text, " ", "") {
				t.Errorf("%q became %q", text, lines)
			}
		}
		if lines := wrap(text, 0); len(lines) != 1 || lines[0] != text {
			t.Errorf("without a width %q became %q", text, lines)
		}
	}
}

// TestLayOut: a message for a file is one line; on a terminal its clauses are lines.
func TestLayOut(t *testing.T) {
	text := "vdfs: a.vdi: parent: missing; looked in /a, /b; name its folder with --search"
	if got := (&page{}).layOut(text); got != text {
		t.Errorf("%q", got)
	}
	const want = "vdfs: a.vdi: parent: missing;\n  looked in /a, /b;\n  name its folder with --search"
	if got := (&page{width: 40}).layOut(text); got != want {
		t.Errorf("%q", got)
	}
}
