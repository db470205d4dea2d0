package cli

import (
	"io"
	"log/syslog"
	"sync"
)

// daemonLog is where a serving process logs: stderr as long as somebody reads it,
// then the system log, if there is one.
type daemonLog struct {
	mu     sync.Mutex
	target io.Writer
}

func (l *daemonLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.target.Write(p); err != nil {
		return len(p), nil // nobody to tell
	}
	return len(p), nil
}

func (l *daemonLog) toSyslog() {
	var target io.Writer = io.Discard
	if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_NOTICE, "vdfs"); err == nil {
		target = w
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = target
}
