package amazon

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// How a poller asks. A new question is asked often, since a quick endpoint has
// the answer soon, and then ever less, down to the delay of the template. A
// question that would be due soon goes along with one that is due now.
const (
	firstDelay = 120 * time.Millisecond
	growth     = 1.5
	// minGap and gapPerWatch keep all builds together within EC2's token bucket
	// for each Describe call (100 tokens, 20 more each second), of which a
	// poller takes at most half.
	minGap      = 100 * time.Millisecond
	gapPerWatch = 10 * time.Millisecond
	maxGap      = time.Second
	// batch is how many ids one call asks for; EC2 takes 200 values for a filter.
	batch = 100
	// patience is for how long a poller bears trouble before it reports it.
	patience = 2 * time.Minute
	// settling is for how long something new may be unknown to Describe.
	settling = 2 * time.Minute
)

// A poller asks for the state of many things of one kind in one region, in one
// call for all builds that wait. It has a goroutine only while anybody waits.
type poller[T any] struct {
	describe func(ctx context.Context, ids []string) (map[string]T, error)
	// first and gap are the shortest delays; shorter in tests.
	first, gap time.Duration

	mu      sync.Mutex
	watches map[*watch[T]]struct{}
	running bool
	changed chan struct{}
}

type watch[T any] struct {
	ctx   context.Context // of who waits
	id    string
	due   time.Time
	step  time.Duration
	armed bool
	out   chan answer[T]
}

type answer[T any] struct {
	v     T
	found bool
	err   error
}

func newPoller[T any](describe func(context.Context, []string) (map[string]T, error)) *poller[T] {
	return &poller[T]{
		describe: describe, first: firstDelay, gap: minGap,
		watches: map[*watch[T]]struct{}{}, changed: make(chan struct{}, 1),
	}
}

// follow calls see with each state of the thing, the first one at once, until
// see says that it is done, or ctx ends: then follow returns its cause. found
// is false when the platform does not know the thing. The delay between two
// states grows up to delay. Trouble is borne for a while, then returned.
func (p *poller[T]) follow(ctx context.Context, id string, delay time.Duration, see func(v T, found bool) (done bool, err error)) error {
	w := &watch[T]{ctx: ctx, id: id, due: time.Now(), step: p.first, armed: true, out: make(chan answer[T], 1)}
	p.add(w)
	defer p.remove(w)
	var trouble time.Time
	for {
		var a answer[T]
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case a = <-w.out:
		}
		if a.err != nil {
			if trouble.IsZero() {
				trouble = time.Now()
			}
			if kindOf(a.err).Final() || time.Since(trouble) > patience {
				return a.err
			}
		} else {
			trouble = time.Time{}
			if done, err := see(a.v, a.found); done || err != nil {
				return err
			}
		}
		p.arm(w, delay)
	}
}

func (p *poller[T]) add(w *watch[T]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watches[w] = struct{}{}
	if !p.running {
		p.running = true
		go p.run()
	}
	p.nudge()
}

func (p *poller[T]) remove(w *watch[T]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watches, w)
	p.nudge()
}

// arm asks again after the next delay.
func (p *poller[T]) arm(w *watch[T], limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.due = time.Now().Add(min(w.step, limit))
	w.step = min(time.Duration(float64(w.step)*growth), max(limit, p.first))
	w.armed = true
	p.nudge()
}

func (p *poller[T]) nudge() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// run asks while anybody waits.
func (p *poller[T]) run() {
	var last time.Time
	for {
		wait, more := p.next(last)
		if !more {
			return
		}
		if wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-p.changed:
			}
			t.Stop()
			continue
		}
		p.ask(p.take())
		last = time.Now()
	}
}

// next returns how long until the next question; false when nobody waits.
func (p *poller[T]) next(last time.Time) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.watches) == 0 {
		p.running = false
		return 0, false
	}
	wait := time.Hour
	for w := range p.watches {
		if w.armed {
			wait = min(wait, time.Until(w.due))
		}
	}
	gap := min(max(p.gap, time.Duration(len(p.watches))*gapPerWatch), maxGap)
	return max(wait, time.Until(last.Add(gap))), true
}

// take returns the watches that are due, or will be within half their delay.
func (p *poller[T]) take() map[string][]*watch[T] {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]*watch[T]{}
	now := time.Now()
	for w := range p.watches {
		if w.armed && !w.due.After(now.Add(w.step/2)) {
			w.armed = false
			out[w.id] = append(out[w.id], w)
		}
	}
	return out
}

// ask asks for the things in batches and hands out the answers.
func (p *poller[T]) ask(due map[string][]*watch[T]) {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(due)), batch) {
		// The call is on behalf of many builds: none of their contexts ends it. One
		// of them lends it its place in a trace.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(due[ids[0]][0].ctx), patience)
		found, err := p.describe(ctx, ids)
		cancel()
		for _, id := range ids {
			v, ok := found[id]
			for _, w := range due[id] {
				w.out <- answer[T]{v, ok, err} // has room: a watch is taken once
			}
		}
	}
}
