package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// helper is the set-user-ID program that mounts for users.
const helper = "fusermount3"

// helperMount has fusermount3 mount and hand back the connection over a socket.
func helperMount(o *Options) (fd int, err error) {
	bin, err := helperPath()
	if err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "fusermount3")
	defer unix.Close(pair[0])
	defer theirs.Close()

	access := "ro"
	if o.writable() {
		access = "rw"
	}
	if o.Sync {
		access += ",sync"
	}
	list := append(o.kernelOptions(), access, "fsname="+escapeOption(o.fsName()), "subtype="+Subtype)
	cmd := exec.Command(bin, "-o", strings.Join(list, ","), "--", o.Mountpoint)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3", "LC_ALL=C")
	cmd.ExtraFiles = []*os.File{theirs}
	if out, err := cmd.CombinedOutput(); err != nil {
		return -1, explainHelper(string(out), err)
	}
	return receiveFD(pair[0])
}

func helperPath() (string, error) {
	if bin, err := exec.LookPath(helper); err == nil {
		return bin, nil
	}
	bin, err := exec.LookPath("/bin/" + helper) // PATH may be empty
	if err != nil {
		return "", errors.New(helper + " is not installed: users mount with its help (package fuse3), root without")
	}
	return bin, nil
}

// escapeOption protects what separates options.
func escapeOption(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(s)
}

// explainHelper adds to fusermount3's words what can be done.
func explainHelper(out string, err error) error {
	text := strings.TrimSpace(out)
	switch {
	case text == "":
		return fmt.Errorf("%s: %w", helper, err)
	case strings.Contains(text, "user_allow_other"):
		return fmt.Errorf("%s; an administrator adds the line (echo user_allow_other >> %s), or mount without allow_other and allow_root", text, ConfFile)
	case strings.Contains(text, "failed to open /dev/fuse: Permission denied"):
		return fmt.Errorf("%s; it is usually open to all (chmod 0666 /dev/fuse)", text)
	case strings.Contains(text, "/dev/fuse"):
		return fmt.Errorf("%s; load the kernel's FUSE module (modprobe fuse); in a container, pass --device /dev/fuse", text)
	}
	return errors.New(text)
}

// receiveFD takes the one descriptor fusermount3 sends.
func receiveFD(socket int) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", helper, err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("%s sent no connection", helper)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%s sent no connection", helper)
	}
	return fds[0], nil
}

// helperUnmount is `fusermount3 -u`.
func helperUnmount(mountpoint string, more ...string) error {
	bin, err := helperPath()
	if err != nil {
		return err
	}
	cmd := exec.Command(bin, append([]string{"-u"}, append(more, "--", mountpoint)...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	switch text := strings.TrimSpace(string(out)); {
	case err == nil:
		return nil
	case strings.Contains(text, "busy"):
		return fmt.Errorf("%s: %w", mountpoint, unix.EBUSY)
	case text != "":
		return errors.New(text)
	}
	return fmt.Errorf("%s: %w", helper, err)
}
