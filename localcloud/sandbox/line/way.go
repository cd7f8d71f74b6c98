package line

import (
	"os"
	"sync"
	"time"
)

// most is how many bytes a way holds back: more than a TCP connection sends
// without an answer. What comes beyond that is lost, as in any queue.
const most = 32 << 20

// A way is one direction of a line.
type way struct {
	from, to *os.File
	more     chan struct{} // tells write that there is something new

	mu      sync.Mutex
	weather Weather
	held    []packet
	bytes   int       // of held
	free    time.Time // when all that came has passed the narrow place
	last    time.Time // when the last of held is due
	tally   Tally
}

type packet struct {
	data []byte
	due  time.Time
}

func newWay(from, to *os.File, w Weather) *way {
	return &way{from: from, to: to, weather: w, more: make(chan struct{}, 1)}
}

func (w *way) set(to Weather) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.weather = to
	if to.Rate == 0 {
		w.free = time.Time{} // nothing is narrow any more
	}
}

func (w *way) told() Tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tally
}

// read takes packets until the device is gone.
func (w *way) read(mtu int) {
	buf := make([]byte, mtu)
	for {
		n, err := w.from.Read(buf)
		if err != nil {
			return
		}
		// A device that is up talks IPv6 of its own accord.
		if n > 0 && buf[0]>>4 == 4 {
			w.take(buf[:n], time.Now())
		}
	}
}

// take decides about a packet that came now.
func (w *way) take(data []byte, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.weather.loses() {
		w.tally.Lost++
		return
	}
	passed := now
	if w.weather.Rate > 0 {
		waits := max(0, w.free.Sub(now))
		// One that finds nobody waiting passes, however big it is.
		if waits > 0 && waits+w.weather.takes(len(data)) > w.weather.takes(w.weather.room()) {
			w.tally.Full++
			return
		}
		passed = now.Add(waits + w.weather.takes(len(data)))
		w.free = passed
	}
	if w.bytes+len(data) > most {
		w.tally.Full++
		return
	}
	due := passed.Add(w.weather.holds())
	if due.Before(w.last) {
		due = w.last
	}
	w.last = due
	w.held = append(w.held, packet{append([]byte(nil), data...), due})
	w.bytes += len(data)
	select {
	case w.more <- struct{}{}:
	default: // it knows
	}
}

// next returns the packet that is due, or how long until one will be; zero when
// there is none.
func (w *way) next(now time.Time) (data []byte, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 {
		w.held = nil // the memory, too
		return nil, 0
	}
	p := w.held[0]
	if wait := p.due.Sub(now); wait > 0 {
		return nil, wait
	}
	w.held[0] = packet{}
	w.held = w.held[1:]
	w.bytes -= len(p.data)
	w.tally.Carried++
	return p.data, 0
}

// rest returns all that is held back.
func (w *way) rest() []packet {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.held
	w.held, w.bytes = nil, 0
	w.tally.Carried += uint64(len(list))
	return list
}

// write passes packets on when they are due, until done; then all that are left.
func (w *way) write(done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		data, wait := w.next(time.Now())
		if data != nil {
			_, _ = w.to.Write(data) // a device that is gone ends read, too
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-due:
		case <-w.more:
		case <-done:
			for _, p := range w.rest() {
				_, _ = w.to.Write(p.data)
			}
			return
		}
	}
}
