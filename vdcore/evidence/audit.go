package evidence

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"vdfs/vdcore/storage"
)

const (
	auditSchema = 1
	// maxUses is how many lines of opens, and of who asks for the end, are written in a
	// burst; after that there is one
	// more every usesEvery. A close has a line if its open has one.
	maxUses   = 1000
	usesEvery = time.Second
	// maxErrors bounds the lines of errors that are synced: they are bounded by who
	// reports them, but may come fast.
	maxErrors = 20
)

// Audit is an audit file that is being written. A nil *Audit writes nothing.
type Audit struct {
	path    string
	session string // tells the lines of one mount from another's in the same file

	mu       sync.Mutex // held while a line is written; guards what follows
	file     *os.File
	broken   error // the first line that could not be written
	uses     map[uint64]use
	last     uint64 // use
	totals   map[string]int64
	unlogged int64 // opens without a line since the last one
	missed   int64 // opens without a line
	tokens   int
	filled   time.Time
	errors   int
	asked    *process // who asked for the end last
}

// use is an open file.
type use struct {
	file   string
	by     process
	since  time.Time
	logged bool
}

// OpenAudit opens an audit file to append to it, and makes it if need be, for nobody but
// its owner. A file that is there must be one. Nothing is written yet.
func OpenAudit(path string) (*Audit, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("%w: %w", storage.ErrNotRegular, err)
	}
	if err != nil {
		return nil, err
	}
	a := &Audit{path: path, file: f, session: uuid.NewString(), uses: map[uint64]use{}, totals: map[string]int64{}, tokens: maxUses, filled: time.Now()}
	if err := a.judge(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return a, nil
}

// errNoAudit: the file that was named is there, and no audit file.
var errNoAudit = fmt.Errorf("%w: it holds something else than the lines of an audit file; name another one", fs.ErrExist)

// judge refuses a file that is no audit file.
func (a *Audit) judge() error {
	st, err := a.file.Stat()
	switch {
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return storage.ErrNotRegular
	case st.Size() == 0:
		return nil
	}
	first, err := bufio.NewReader(io.NewSectionReader(a.file, 0, 64<<10)).ReadBytes('\n')
	var h head
	if err != nil || json.Unmarshal(first, &h) != nil || h.Schema == 0 {
		return errNoAudit
	}
	end := make([]byte, 1)
	if _, err := a.file.ReadAt(end, st.Size()-1); err != nil {
		return err
	}
	if end[0] != '\n' { // a crash cut it off
		_, err = a.file.WriteString("\n")
	}
	return err
}

// Is reports whether a file is the audit file.
func (a *Audit) Is(id storage.FileID) bool {
	if a == nil {
		return false
	}
	var st unix.Stat_t
	err := unix.Fstat(int(a.file.Fd()), &st)
	return err == nil && id == storage.FileID{Dev: st.Dev, Ino: st.Ino}
}

// head begins every line.
type head struct {
	Schema  int       `json:"vdfs_audit"`
	Time    time.Time `json:"time"` // UTC
	Session string    `json:"session"`
	Event   string    `json:"event"`
}

// write writes a line. With sync it is on disk then.
func (a *Audit) write(event string, body any, sync bool) {
	line, err := a.line(event, body)
	if err == nil {
		_, err = a.file.Write(line)
	}
	if err == nil && sync {
		err = a.file.Sync()
	}
	if err != nil && a.broken == nil {
		a.broken = fmt.Errorf("%s: the audit file is not complete: %w", a.path, err)
	}
}

func (a *Audit) line(event string, body any) ([]byte, error) {
	begin, err := json.Marshal(head{auditSchema, time.Now().UTC(), a.session, event})
	if err != nil {
		return nil, err
	}
	rest, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(rest, []byte("{}")) {
		return append(begin, '\n'), nil
	}
	begin[len(begin)-1] = ','
	return append(append(begin, rest[1:]...), '\n'), nil
}

// Opened notes that a file of the mount was opened, and returns the number to close it
// by. access says what for.
func (a *Audit) Opened(file, access string, by Caller) (id uint64) {
	if a == nil {
		return 0
	}
	u := use{file: file, by: by.process(), since: time.Now()}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	a.totals[file]++
	if u.logged = a.allowed(); u.logged {
		a.write("open", struct {
			ID       uint64 `json:"id"`
			File     string `json:"file"`
			Access   string `json:"access"`
			Unlogged int64  `json:"unlogged,omitempty"` // opens left out before this one
			process
		}{a.last, file, access, a.unlogged, u.by}, false)
		a.unlogged = 0
	} else {
		a.unlogged++
		a.missed++
	}
	a.uses[a.last] = u
	return a.last
}

// allowed takes one token, if there is one.
func (a *Audit) allowed() bool {
	if fresh := int(time.Since(a.filled) / usesEvery); fresh > 0 {
		a.tokens = min(a.tokens+fresh, maxUses)
		a.filled = time.Now()
	}
	if a.tokens == 0 {
		return false
	}
	a.tokens--
	return true
}

// Closed notes that an open file was closed.
func (a *Audit) Closed(id uint64) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.uses[id]
	delete(a.uses, id)
	if !ok || !u.logged {
		return
	}
	a.write("close", struct {
		ID      uint64  `json:"id"`
		File    string  `json:"file"`
		Seconds float64 `json:"seconds"` // it was open
		process
	}{id, u.file, time.Since(u.since).Seconds(), u.by}, false)
}

// Failed notes an error that a reader or writer of the mount got. Who calls it bounds
// how often.
func (a *Audit) Failed(op, file string, off, n int64, err error) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.errors++
	a.write("error", struct {
		Op     string `json:"op"`
		File   string `json:"file"`
		Offset int64  `json:"offset"`
		Length int64  `json:"length"`
		Error  string `json:"error"`
	}{op, file, off, n, err.Error()}, a.errors <= maxErrors)
}

// Changed notes what became of an image.
func (a *Audit) Changed(c Change) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write("changed", c, true)
}

// Asked notes who asks for the end of the mount.
func (a *Audit) Asked(by Caller) {
	if a == nil {
		return
	}
	p := by.process()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = &p
	if a.allowed() { // whoever may look into the mount may ask, and as often as he likes
		a.write("umount asked for", p, false)
	}
}
