package cli

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// notify tells the service manager something, if there is one that listens
// (sd_notify(3)); nothing depends on its hearing it.
func notify(states ...string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // "@…" is abstract
	if err != nil {
		log.Debug().Err(err).Msg("NOTIFY_SOCKET")
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(states, "\n"))); err != nil {
		log.Debug().Err(err).Msg("NOTIFY_SOCKET")
	}
}

// notifyReady says that the mount answers, and who serves it: with a daemon that is not
// the process that was started.
func notifyReady(mountpoint string) {
	notify("READY=1", fmt.Sprintf("MAINPID=%d", os.Getpid()), "STATUS=serving "+clean(mountpoint))
}
