package cli

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestOutcome: what one process leaves, another finds; nothing is an error too.
func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		end  func(outcome)
		code int
		word string
	}{
		{func(o outcome) { o.tell(nil) }, exitOK, ""},
		{func(o outcome) { o.tell(fmt.Errorf("disk.vdi:\n%w", syscall.ENOSPC)) }, exitIO, "disk.vdi:\nno space"},
		{func(outcome) {}, exitIO, "killed"},
	} {
		o, err := newOutcome()
		if err != nil {
			t.Fatal(err)
		}
		f, err := openOutcome(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		c.end(o)
		err = readOutcome(f)
		if exitCode(err) != c.code || err != nil && !strings.Contains(err.Error(), c.word) {
			t.Errorf("exit %d, %v; want %d, %q", exitCode(err), err, c.code, c.word)
		}
		f.Close()
		o.file.Close()
	}
}
