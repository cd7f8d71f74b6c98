package buildlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

const (
	flushEvery = 250 * time.Millisecond // how long a line waits to be stored
	partialAge = time.Second            // how long a line without an end waits
	maxPartial = 64 << 10               // how long it can grow
	maxChunk   = 1 << 20                // text in one blob
	maxWaiting = 4 << 20                // what is buffered before Sink waits
	maxOutput  = 1 << 30                // of one command; what it prints behind that is not kept
	blindHold  = 4 << 10                // kept back of a long line when HoldBack was not called
	storeLimit = 30 * time.Second       // for one chunk
)

var errClosed = errors.New("the log of the step is closed")

// A Step takes the log of one attempt at a step. It implements bakehouse.Log
// and provisioners.Output. It may be used by many goroutines at once.
type Step struct {
	store  *Store
	prefix string
	name   string
	mask   func(string) string
	ctx    context.Context // outlives the attempt's: what was printed is stored

	wake chan struct{}
	stop chan struct{}
	done chan struct{}

	maxOutput int64 // a constant but in tests
	once      sync.Once

	flushing sync.Mutex // held while a chunk is stored; taken before mu

	mu      sync.Mutex
	hold    func(string) int
	next    int              // number of the next chunk
	stored  map[string]int   // how often each line was said, by all attempts
	said    map[string]int   // how often this attempt said it
	offsets map[string]int64 // output that is stored, by command
	tails   map[string]*tail // output that has no line end yet, by command
	items   []item           // what waits to be stored, in order
	// inFlight is how many items a chunk that is being stored was made of: they
	// must not change.
	inFlight int
	waiting  int // bytes in items
	closed   bool
}

// An item waits to be stored.
type item struct {
	kind Kind
	time int64

	text string // of Say and Error: masked
	nth  int    // this attempt says it for the nth time

	command string // of Output
	start   int64  // offset of raw
	raw     []byte
	suffix  string // shown behind raw, but not counted: see endTail
}

// A tail is output behind the last line end.
type tail struct {
	received int64 // offset behind raw
	raw      []byte
	since    time.Time
	shown    bool // an end has been shown as a suffix
	full     bool // it was said that the rest is not kept
}

// Step opens the log of one step of a build, such as "07-provision-shell":
// steps are shown in the order of their names. It reads what earlier attempts
// stored. mask hides secrets in whole lines and may be nil.
//
// Close must be called.
func (s *Store) Step(ctx context.Context, build bakehouse.BuildID, step string, mask func(string) string) (*Step, error) {
	prefix, err := buildPrefix(build)
	if err != nil {
		return nil, err
	}
	if !stepForm.MatchString(step) {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "log: %q is not the name of a step", step)
	}
	st := &Step{
		store: s, prefix: prefix, name: step, mask: mask, ctx: context.WithoutCancel(ctx),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		next: 1, stored: map[string]int{}, said: map[string]int{},
		offsets: map[string]int64{}, tails: map[string]*tail{}, maxOutput: maxOutput,
	}
	if mask == nil {
		st.mask = func(s string) string { return s }
		st.hold = func(string) int { return 0 }
	}
	if err := st.loadAll(ctx); err != nil {
		return nil, fmt.Errorf("open the log of step %s: %w", step, err)
	}
	go st.run()
	return st, nil
}

// HoldBack tells how many bytes at the end of a text might begin a secret, as
// secret.Masker.Pending does. With it, a line without an end (a prompt,
// progress) is stored after about a second. Without it, such a line waits for
// its end or for 64 KiB, since half a secret cannot be recognised.
func (st *Step) HoldBack(pending func(text string) int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.hold = pending
}

// Say implements bakehouse.Log. What an attempt says for the nth time is stored
// unless it has been stored n times.
func (st *Step) Say(line string) { st.say(Say, line) }

// Error implements bakehouse.Log.
func (st *Step) Error(line string) { st.say(Error, line) }

func (st *Step) say(k Kind, line string) {
	text := st.mask(clean(line))
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return
	}
	st.put(k, text)
}

// put is say for a text that is clean and masked. st.mu is held.
func (st *Step) put(k Kind, text string) {
	st.endTails("")
	id := string(k) + "\x00" + text
	st.said[id]++
	if st.said[id] <= st.stored[id] {
		return
	}
	st.push(item{kind: k, time: now(), text: text, nth: st.said[id]})
}

// Offset returns how many bytes of the output of the command are stored.
func (st *Step) Offset(command string) int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.offsets[command]
}

// Sink stores more of the output of the command, of which it keeps the first
// GiB: a command that prints for ever fills no store, and ends like any other.
// Bytes that were stored before,
// by this or another attempt, are left out; a gap is an error. Its error means
// that output cannot be stored for now and piles up: let go and try again.
func (st *Step) Sink(command string) communicator.Sink {
	return func(p []byte, end int64) error { return st.sink(command, p, end) }
}

func (st *Step) sink(command string, p []byte, end int64) error {
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return errClosed
	}
	st.endTails(command)
	t := st.tails[command]
	if t == nil {
		t = &tail{received: st.offsets[command]}
		st.tails[command] = t
	}
	start := end - int64(len(p))
	if start > t.received {
		st.mu.Unlock()
		return fmt.Errorf("output of %s: bytes %d to %d are missing", command, t.received, start)
	}
	if skip := t.received - start; skip < int64(len(p)) {
		st.takeSome(command, t, p[skip:])
	}
	full := st.waiting > maxWaiting
	st.mu.Unlock()
	if full {
		return st.flush(st.ctx)
	}
	return nil
}

// run stores what comes in, soon but not each line for itself.
func (st *Step) run() {
	defer close(st.done)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-st.stop:
			return
		case <-st.wake:
		}
		pause.Reset(flushEvery)
		select {
		case <-st.stop:
			return
		case <-pause.C:
		}
		st.mu.Lock()
		st.ageTails(time.Now())
		st.mu.Unlock()
		// What could not be stored stays, and is tried again.
		_ = st.flush(st.ctx)
		st.mu.Lock()
		if len(st.items) > 0 || st.unended() {
			st.signal()
		}
		st.mu.Unlock()
	}
}

// Close stores everything and ends the log. Its error says that something could
// not be stored; a trouble that passed meanwhile is none.
func (st *Step) Close(ctx context.Context) error {
	st.mu.Lock()
	st.endTails("")
	st.closed = true
	st.mu.Unlock()
	st.once.Do(func() { close(st.stop) })
	<-st.done
	return st.flush(ctx)
}

func (st *Step) signal() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (st *Step) push(it item) {
	st.items = append(st.items, it)
	st.waiting += len(it.raw) + len(it.text)
	st.signal()
}
