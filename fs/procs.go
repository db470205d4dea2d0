package fs

import (
	"os"
	"runtime"
	"sync/atomic"
)

// spareProcs is how many of the runtime's processors (its Ps) stay free when
// every reader waits in the kernel.
const spareProcs = 2

// leaveProcs raises GOMAXPROCS above the number of go-fuse's readers; called once
// go-fuse has counted its readers by the old value. A reader waits for requests
// in a system call and keeps its P. As long as another P is idle, the runtime
// leaves it that P for 10 ms; when none is, it takes the P away after 20 µs, and
// each request pays with a futex, a sleep of the monitor thread and a context
// switch more. Measured at 2 processors, 4 KiB random reads one after the other:
// 0.35 futex calls a request and 40 µs of processor time at GOMAXPROCS 2, 0.08
// and 20 µs at 4. A value the user has set stays.
func leaveProcs() {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	// go-fuse: as many readers as processors, 2 to 16, and one more at times.
	readers := min(max(runtime.GOMAXPROCS(0), 2), 16) + 1
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), readers+spareProcs))
}

// yieldEvery is how many reads pass between two calls of Gosched.
const yieldEvery = 64

// yielder goes through the scheduler now and then. A reader of go-fuse serves
// request after request without ever being scheduled anew, and a P that has run
// one goroutine for 10 ms counts as hogged: from then on the monitor thread takes
// it away whenever it is in a system call, every 20 µs. Yielding resets that clock.
// Measured as above: 0.3 sleeps of the monitor a request become 0.1, 26 µs of
// processor time 20. Yielding at every request would wake another thread each time.
type yielder struct{ reads atomic.Uint64 }

func (y *yielder) yield() {
	if y.reads.Add(1)%yieldEvery == 0 {
		runtime.Gosched()
	}
}
