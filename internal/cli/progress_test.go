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
	m := &meter{out: user, what: "copying", began: time.Now().Add(-time.Minute)}
	for range 2 {
		m.at(1<<20, 4<<20)
		m.at(4<<20, 4<<20)
		m.at(4<<20, 4<<20)
	}
	user.Close() // reading ends with EIO when all there is has been read
	seen, _ := io.ReadAll(screen)
	text := string(seen)
	if n := strings.Count(text, "copying 4.0 MiB / 4.0 MiB"); n != 2 || !strings.HasSuffix(text, "\x1b[J") {
		t.Errorf("full %d times, want 2, and cleared: %q", n, text)
	}
}

// TestMeterAlone: work goes on when the terminal is gone.
func TestMeterAlone(t *testing.T) {
	user, screen := terminal(t)
	m := &meter{out: user, what: "copying", began: time.Now().Add(-time.Minute)}
	m.at(1<<20, 1<<30)
	screen.Close()
	for done := int64(2 << 20); done <= 1<<30; done += 1 << 20 {
		m.at(done, 1<<30)
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
