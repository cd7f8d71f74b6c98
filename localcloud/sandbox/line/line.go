// Package line lays bad lines between two network namespaces: packets that take
// one are lost, held back or slowed down on purpose, without any help of the
// kernel's packet schedulers.
//
// A line goes beside a cable that is there already. It has a TUN device at each
// end, and this process carries the packets from one to the other. A route
// through the device stands before the one through the cable; the addresses stay
// those of the cable, so connections do not notice the change. Nothing of it
// outlives the process: with the devices go the routes, and the cable is in
// force again.
package line

import (
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netns"
)

// An End is where a line begins or ends.
type End struct {
	// Namespace is the network namespace; netns.None(): that of this process.
	Namespace netns.NsHandle
	// Peer is what is reached over the line, exactly as a route through the cable
	// has it, or more narrowly.
	Peer netip.Prefix
	// Own is the address that the cable has here.
	Own netip.Addr
}

// A Line carries IPv4 packets between two ends. Its methods may be called at
// the same time.
type Line struct {
	files [2]*os.File
	ways  [2]*way
	done  chan struct{} // closed when it ends

	ending           sync.Once
	readers, writers sync.WaitGroup
}

// Lay lays a line for packets of at most mtu bytes, which should be that of the
// cable. When it fails, nothing has changed at either end; without TUN devices,
// that is an ErrMissing. The namespaces may be closed afterwards.
func Lay(near, far End, mtu int, w Weather) (*Line, error) {
	l := &Line{done: make(chan struct{})}
	ends := [2]End{near, far}
	var names [2]string
	// Both are made in the near namespace, for a TUN device's file holds the one
	// that it was opened in: so the far one can end, and takes the line with it.
	for i := range ends {
		var err error
		if l.files[i], names[i], err = device(near.Namespace); err != nil {
			l.closeFiles()
			return nil, fmt.Errorf("lay line: %w", err)
		}
	}
	if err := move(names[1], near.Namespace, far.Namespace); err != nil {
		l.closeFiles()
		return nil, fmt.Errorf("lay line: far end: %w", err)
	}
	l.ways = [2]*way{newWay(l.files[0], l.files[1], w), newWay(l.files[1], l.files[0], w)}
	for _, w := range l.ways {
		l.writers.Go(func() { w.write(l.done) })
		l.readers.Go(func() {
			w.read(mtu)
			go l.Close() // in case that its end has gone
		})
	}
	// The routes come last: from then on it is in force.
	for i, e := range ends {
		if err := connect(names[i], e, mtu); err != nil {
			l.Close()
			return nil, fmt.Errorf("lay line: %s end: %w", [...]string{"near", "far"}[i], err)
		}
	}
	return l, nil
}

// Set changes the weather for packets that come from now on.
func (l *Line) Set(w Weather) {
	for _, way := range l.ways {
		way.set(w)
	}
}

// Tally tells what has become of the packets so far, both ways together.
func (l *Line) Tally() Tally {
	a, b := l.ways[0].told(), l.ways[1].told()
	return Tally{Carried: a.Carried + b.Carried, Lost: a.Lost + b.Lost, Full: a.Full + b.Full}
}

// Done is closed when the line ends: by Close, or with the namespace of its far
// end. That one ends some time after its last process: unfinished connections
// keep it for minutes.
func (l *Line) Done() <-chan struct{} { return l.done }

// Close takes the line away: when it returns, the cable is in force again. What
// is held back just then arrives at once. Closing twice is no error.
func (l *Line) Close() {
	l.ending.Do(func() {
		close(l.done)
		l.writers.Wait()
		l.closeFiles()
	})
	l.readers.Wait()
}

func (l *Line) closeFiles() {
	for _, f := range l.files {
		if f != nil {
			f.Close()
		}
	}
}
