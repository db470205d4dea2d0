package fs

import (
	"bufio"
	"os"
	"strings"
)

// ConfFile is where fusermount3 reads what users may do.
const ConfFile = "/etc/fuse.conf"

// UserAllowOther reports whether users may have allow_other. A file that is not there
// says no.
func UserAllowOther() (bool, error) {
	f, err := os.Open(ConfFile)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if strings.TrimSpace(s.Text()) == "user_allow_other" {
			return true, nil
		}
	}
	return false, s.Err()
}
