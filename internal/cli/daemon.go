package cli

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// daemonEnv tells the child which descriptor to report on.
const daemonEnv = "VDFS_DAEMON_PIPE"

// answerTimeout is how long a new mount may take to answer its first request.
const answerTimeout = 10 * time.Second

// startDaemon runs the same command line again in a session of its own, and
// returns once its mount answers this process. The child shares stderr until it
// is ready, so its warnings and its error are already where they belong.
//
// With sameGroup it goes to that session only when it has mounted: to the processes of
// who automounts, which it knows by their group, the mountpoint is a folder, and all
// others wait there for the mount.
func startDaemon(mountpoint string, sameGroup bool) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd, err := daemonCommand(w)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: !sameGroup}
	err = cmd.Start()
	w.Close() // or its end by the child would not show
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	defer forwardSignals(cmd.Process)()
	if n, _ := r.Read(make([]byte, 1)); n == 1 {
		return awaitAnswer(mountpoint)
	}
	return daemonFailed(cmd.Wait())
}

// pipeNumber is the descriptor the daemon reports on: a high one where so many may be
// open. The kernel gives a process a table for as many as it begins with, and to make it
// longer later takes that longer than opening dozens of layers.
func pipeNumber() int {
	const high = 511
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur <= 2*high {
		return 3
	}
	return high
}

func daemonCommand(ready *os.File) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Args = os.Args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	number := pipeNumber()
	cmd.ExtraFiles = append(make([]*os.File, number-3), ready) // they count from 3
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", daemonEnv, number))
	// What the caller left open beyond stderr is not the daemon's to keep. Kernels
	// before 5.11 cannot, and then it keeps it.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		log.Debug().Err(err).Msg("close_range")
	}
	return cmd, nil
}

// forwardSignals passes an interrupt on to the child, which may be in another
// session, until the returned function is called.
func forwardSignals(child *os.Process) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		for s := range signals {
			child.Signal(s) // one that is gone needs none
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// daemonFailed turns the child's end into this process's: the message is out.
func daemonFailed(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return codedError{errors.New("the daemon ended without mounting"), exitFUSE}
	}
	if exit.ExitCode() < 0 {
		return fmt.Errorf("the daemon was ended: %w", err)
	}
	return codedError{errReported, exit.ExitCode()}
}

// awaitAnswer asks the mount something, as its first user.
func awaitAnswer(mountpoint string) error {
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		err := unix.Statfs(mountpoint, &st)
		if err == nil && st.Type != unix.FUSE_SUPER_MAGIC {
			err = errors.New("it was unmounted at once")
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errFUSE, mountpoint, err)
		}
		return nil
	case <-time.After(answerTimeout):
		return fmt.Errorf("%w: %s does not answer", errFUSE, mountpoint)
	}
}

// waitForCaller returns when the process that waited for the mount is gone, which has
// asked it something first; at once without one.
func waitForCaller(ready *os.File) {
	if ready == nil {
		return
	}
	defer ready.Close()
	list := []unix.PollFd{{Fd: int32(ready.Fd())}} // of itself it says POLLERR when nobody reads any more
	for {
		if _, err := unix.Poll(list, int(answerTimeout.Milliseconds())); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// daemonPipe is the pipe of a process that startDaemon started, else nil.
func daemonPipe() *os.File {
	fd, err := strconv.Atoi(os.Getenv(daemonEnv))
	os.Unsetenv(daemonEnv)
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "daemon pipe")
}

// becomeDaemon lets go of the terminal, the caller's pipes and the working
// folder, and then reports readiness. It fails when nobody waits for the report.
func becomeDaemon(ready *os.File, out *daemonLog) error {
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if _, err := unix.Setsid(); err != nil && !errors.Is(err, unix.EPERM) { // EPERM: it has its own
		return fmt.Errorf("setsid: %w", err)
	}
	out.toSyslog()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup2(int(null.Fd()), fd); err != nil {
			return fmt.Errorf("dup2: %w", err)
		}
	}
	_, err = ready.Write([]byte{1})
	return err
}
