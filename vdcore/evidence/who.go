package evidence

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// Caller is who asks for something, as FUSE requests tell it.
type Caller struct {
	UID, GID uint32
	PID      uint32 // of the thread; 0 for one of another PID namespace
}

// process is a caller as a line has it.
type process struct {
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	PID  uint32 `json:"pid"`  // of the process
	Comm string `json:"comm"` // its name
}

// process looks a caller up, which must be alive: it waits for the answer. Nothing is
// read of it that takes the lock of its memory, as that may be waiting for the mount.
func (c Caller) process() process {
	p := process{UID: c.UID, GID: c.GID, PID: c.PID}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID))
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "Tgid:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
				p.PID = uint32(n)
			}
		}
	}
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID))
	p.Comm = strings.TrimSuffix(string(comm), "\n")
	return p
}

// Who is whose process this is.
type Who struct {
	UID      int    `json:"uid"`
	EUID     int    `json:"euid"`
	User     string `json:"user,omitempty"`      // name of uid
	LoginUID string `json:"login_uid,omitempty"` // who logged in, as the kernel keeps it
	Login    string `json:"login,omitempty"`     // name of login_uid
	SudoUser string `json:"sudo_user,omitempty"` // as sudo says in the environment
	Host     string `json:"host,omitempty"`
}

func whoAmI() Who {
	w := Who{UID: os.Getuid(), EUID: os.Geteuid(), SudoUser: os.Getenv("SUDO_USER")}
	w.User = nameOf(strconv.Itoa(w.UID))
	w.Host, _ = os.Hostname()
	text, err := os.ReadFile("/proc/self/loginuid")
	if id := strings.TrimSpace(string(text)); err == nil && id != "" && id != "4294967295" { // nobody logged in
		w.LoginUID, w.Login = id, nameOf(id)
	}
	return w
}

func nameOf(uid string) string {
	u, err := user.LookupId(uid)
	if err != nil {
		return ""
	}
	return u.Username
}
