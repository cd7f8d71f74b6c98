package localcloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// Config says how a Cloud is to be.
type Config struct {
	// Dir is the folder of the state file. It is made if there is none.
	Dir string
	// Host runs the instances; required. It belongs to the caller, who closes it
	// after the Cloud.
	Host Host
	// Delays scales how long things take: 0 as fast as they really are, 1 as
	// long as on AWS at its usual.
	Delays float64
	// Account is the account that everything belongs to. Empty: 123456789012.
	Account string
	// Log takes what the operator should know. Nil: slog.Default().
	Log *slog.Logger
	// Wrap, if set, is put around the answering of every signed request. What it
	// does to requests and answers is its own affair; it sees them before any
	// action does.
	Wrap func(http.Handler) http.Handler
}

// A Cloud is one local cloud: an http.Handler that answers as EC2 does for all
// regions, as STS does where an EC2 client needs it, and as IAM does about an
// account without roles.
type Cloud struct {
	host       Host
	store      *state.Store
	log        *slog.Logger
	account    string
	arch       string
	delays     delays
	faults     *faults.Set
	journal    *record.Journal
	past       *past
	actions    map[string]action // of EC2
	iamActions map[string]action
	handler    http.Handler

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	workers map[string]*worker
	// importing holds the layers that are being written and have no record yet.
	importing map[string]bool
	regions   map[string]bool // set up for certain

	ripe  chan struct{} // something may have ripened
	trash chan struct{} // some layer may have lost its last user
}

// New opens the state in c.Dir, takes up what an earlier process left half
// done, and returns a Cloud that is ready to serve.
func New(c Config) (*Cloud, error) {
	if c.Host == nil {
		return nil, errors.New("localcloud: no host to run instances on")
	}
	if c.Delays < 0 || c.Delays > 1 {
		return nil, fmt.Errorf("localcloud: delays must be between 0 and 1, not %g", c.Delays)
	}
	store, err := state.Open(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("localcloud: %w", err)
	}
	rules, journal, err := open(c.Dir, store)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("localcloud: %w", err), store.Close())
	}
	l := &Cloud{
		faults: rules, journal: journal, past: newPast(),
		host: c.Host, store: store, log: c.Log, account: c.Account, arch: machineArch(),
		delays:  delays{c.Delays},
		workers: map[string]*worker{}, importing: map[string]bool{}, regions: map[string]bool{},
		ripe: make(chan struct{}, 1), trash: make(chan struct{}, 1),
	}
	if l.log == nil {
		l.log = slog.Default()
	}
	if l.account == "" {
		l.account = "123456789012"
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.actions, l.iamActions = l.table(), iamTable()
	l.handler = http.HandlerFunc(l.serve)
	if c.Wrap != nil {
		l.handler = c.Wrap(l.handler)
	}
	if err := l.resume(); err != nil {
		l.cancel()
		l.tasks.Wait()
		return nil, errors.Join(fmt.Errorf("localcloud: %w", err), journal.Close(), store.Close())
	}
	return l, nil
}

// open opens what is kept beside the state: the rules of faults and the record.
func open(dir string, store *state.Store) (*faults.Set, *record.Journal, error) {
	rules, err := faults.Open(filepath.Join(dir, "faults.json"))
	if err != nil {
		return nil, nil, err
	}
	var mark uint64
	err = store.View(func(t *state.Tx) error {
		if m := state.Get[state.Mark](t, "", "journal"); m != nil {
			mark = m.Seq
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	journal, err := record.Open(record.Config{Dir: filepath.Join(dir, "record")}, mark)
	return rules, journal, err
}

// ServeHTTP answers one request.
func (l *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) { l.handler.ServeHTTP(w, r) }

// Account returns the account that everything belongs to.
func (l *Cloud) Account() string { return l.account }

// Close stops what is under way where it is and lets go of the state. Instances
// go on running, and the next New finds them.
func (l *Cloud) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.tasks.Wait()
	return errors.Join(l.journal.Close(), l.store.Close())
}

// resume takes up whatever the state says is not finished.
func (l *Cloud) resume() error {
	var open []*state.Instance
	err := l.write(itself("resume"), func(t *state.Tx) error {
		if base := l.hostBase(); state.Get[state.Base](t, "", baseKey(base)) == nil {
			state.Put(t, base)
		}
		for _, i := range state.List[state.Instance](t, "*") {
			if i.State != state.Terminated {
				open = append(open, i)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, i := range open {
		l.attend(i.Region, i.ID)
	}
	l.tasks.Go(l.ripen)
	l.tasks.Go(l.watch)
	l.tasks.Go(l.collect)
	poke(l.trash)
	return nil
}

// poke wakes who waits on c, now or when it next looks.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// machineArch names this machine's architecture as EC2 does.
func machineArch() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}

// delays says how long transitions take at least. Their ends are computed from
// when they began, so a restart neither shortens nor lengthens them.
type delays struct{ scale float64 }

func (d delays) of(t time.Duration) time.Duration { return time.Duration(float64(t) * d.scale) }

func (d delays) boot() time.Duration      { return d.of(16 * time.Second) }
func (d delays) stop() time.Duration      { return d.of(20 * time.Second) }
func (d delays) terminate() time.Duration { return d.of(30 * time.Second) }
func (d delays) snapshot() time.Duration  { return d.of(45 * time.Second) }
func (d delays) image() time.Duration     { return d.of(60 * time.Second) }
func (d delays) copy() time.Duration      { return d.of(120 * time.Second) }
