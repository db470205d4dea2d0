package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a new one, as who uses it and as who looks at it have it open.
func terminal(t *testing.T) (user, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100})
	}
	if err == nil {
		user, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	return user, screen
}

// at is show some time after the last time.
func (m *meter) at(done, total int64) {
	m.drawn = time.Time{}
	m.show(done, total)
}

// TestMeter: the bar is drawn, and gone at the end, each time there is one.
func TestMeter(t *testing.T) {
	user, screen := terminal(t)
	then := time.Now().Add(-time.Minute)
	m := &meter{out: user, what: "copying", began: then, phase: then}
	for range 2 {
		m.at(0, 4<<20)
		m.at(1<<20, 4<<20)
		m.at(4<<20, 4<<20)
		m.at(4<<20, 4<<20)
	}
	user.Close() // reading ends with EIO when all there is has been read
	seen, _ := io.ReadAll(screen)
	text := string(seen)
	const clear = "\x1b[1A\r\x1b[K"
	if lines := strings.Split(text, "\r\n"); len(lines) != 5 || !strings.HasPrefix(lines[0], "copying 0 B of 4 MiB, 0 % [    ") ||
		!strings.HasPrefix(lines[1], clear+"copying 1 MiB of 4 MiB, 25 %, 17.1 KiB/s, 3m0s left [=====") || strings.HasPrefix(lines[2], clear+clear) || lines[4] != clear {
		t.Errorf("%q", lines)
	}
}

// TestMeterAlone: work goes on when the terminal is gone.
func TestMeterAlone(t *testing.T) {
	user, screen := terminal(t)
	m := &meter{out: user, what: "copying"}
	m.at(1<<20, 1<<30)
	screen.Close()
	for done := int64(2 << 20); done <= 1<<30; done += 1 << 20 {
		m.at(done, 1<<30)
	}
}

// TestMeterNarrow: the bar takes one line, whatever the width is said to be.
func TestMeterNarrow(t *testing.T) {
	user, screen := terminal(t)
	m := &meter{out: user, what: "copying"}
	for _, width := range []int{0, 1, 20, 60, 80, 500} {
		if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(width)}); err != nil {
			t.Fatal(err)
		}
		line := m.line(1<<30, 3<<30, time.Minute)
		if most := max(width, 80*(1-min(width, 1))); len(line) >= most || len(line) == 0 && width > 1 {
			t.Errorf("%d columns: %d are drawn: %q", width, len(line), line)
		}
	}
}

// TestMeterShort: what ends soon shows nothing.
func TestMeterShort(t *testing.T) {
	user, screen := terminal(t)
	m := &meter{out: user, what: "copying", began: time.Now()}
	m.at(1, 2)
	m.at(2, 2)
	user.Close()
	if seen, _ := io.ReadAll(screen); len(seen) > 0 {
		t.Errorf("%q", seen)
	}
}
