// Package ssh talks to machines by SSH.
//
// A Conn may lose its connection and find it again: what can be done twice is
// done again, and commands that run detached on the machine (see Conn.Run) are
// followed from where it was. All waiting is bounded by the context and by the
// settings' ssh_timeout.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// Options say what a connection needs besides the target.
type Options struct {
	// Runner returns the program cmd/runner for a machine of the given GOARCH.
	// It is asked for once per machine. Nil: commands cannot be run, all else can.
	Runner func(arch string) ([]byte, error)
	// Files finds the key files that the settings name.
	Files bakehouse.Files
	// OnHostKey is told the host key of the machine, in authorized_keys format,
	// when a login has succeeded. It may be nil.
	OnHostKey func(key string)
	// Log gets what is of interest to who runs the farm: lost connections and
	// the like. Nil: nobody.
	Log *slog.Logger

	// bootFile stands for the machine's boot ID in tests.
	bootFile string
}

// A Conn is a communicator.Communicator. It may be used by several goroutines.
type Conn struct {
	target communicator.Target
	opts   Options
	log    *slog.Logger

	turn   chan struct{} // who holds it may replace link and place
	mu     sync.Mutex
	link   *link // may be dead
	closed bool
	place  *place // where the runner is; nil before it is needed
	pinned string // the host key
}

var _ communicator.Communicator = (*Conn)(nil)

// Dial logs in to the target, trying again for as long as the settings allow:
// the machine may be rebooting. Failures are those of Wait.
func Dial(ctx context.Context, t communicator.Target, opts Options) (*Conn, error) {
	if t.Host == "" {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "no host to connect to by ssh")
	}
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Conn{
		target: t, opts: opts, log: log.With("host", t.Host),
		turn: make(chan struct{}, 1), pinned: t.HostKey,
	}
	c.turn <- struct{}{}
	if _, err := c.connected(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Wait waits until the machine lets us in, as Packer's step "connect" does, and
// returns its host key in authorized_keys format.
//
// An error of kind Timeout says that ssh_timeout has passed, one of kind Denied
// that the login was refused ssh_handshake_attempts times (counted at Packer's
// pace, one per seven seconds, though it is tried more often), one of kind
// Invalid that the settings cannot work, one of kind Lost that the target's
// host key is not the machine's.
func Wait(ctx context.Context, t communicator.Target, opts Options) (hostKey string, err error) {
	say := bakehouse.LogOf(ctx)
	say.Say("Using SSH communicator to connect: " + t.Host)
	say.Say("Waiting for SSH to become available...")
	c, err := Dial(ctx, t, opts)
	if err != nil {
		return "", err
	}
	defer func() { c.Close() }()
	if pause := time.Duration(t.Settings.PauseBeforeConnecting); pause > 0 {
		c.Close()
		say.Say(fmt.Sprintf("Pausing %s before connecting...", pause))
		if err := sleep(ctx, pause); err != nil {
			return "", err
		}
		t.HostKey = "" // what boots may make new keys meanwhile
		if c, err = Dial(ctx, t, opts); err != nil {
			return "", err
		}
	}
	say.Say("Connected to SSH!")
	return c.HostKey(), nil
}

// HostKey returns the machine's host key in authorized_keys format.
func (c *Conn) HostKey() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pinned
}

// Close ends the connection. Commands on the machine go on.
func (c *Conn) Close() error {
	c.mu.Lock()
	l := c.link
	c.link, c.closed = nil, true
	c.mu.Unlock()
	if l != nil {
		l.close()
	}
	return nil
}

var errClosed = errors.New("ssh connection is closed")

// current returns the link if it is alive.
func (c *Conn) current() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.link != nil && c.link.alive() {
		return c.link, nil
	}
	return nil, nil
}

// connected returns a live link, connecting again if need be.
func (c *Conn) connected(ctx context.Context) (*link, error) {
	return c.connectedWithin(ctx, patience(c.target.Settings))
}

func (c *Conn) connectedWithin(ctx context.Context, p limits) (*link, error) {
	if l, err := c.current(); l != nil || err != nil {
		return l, err
	}
	select {
	case <-c.turn:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { c.turn <- struct{}{} }()
	if l, err := c.current(); l != nil || err != nil {
		return l, err
	}
	l, err := connect(ctx, c.target, c.HostKey(), c.opts.Files, p, c.log)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		l.close()
		return nil, errClosed
	}
	c.link, c.pinned = l, l.hostKey
	c.mu.Unlock()
	if c.opts.OnHostKey != nil {
		c.opts.OnHostKey(l.hostKey)
	}
	return l, nil
}

// lost tells whether err is a failure of the connection, so that another may do
// better.
func (c *Conn) lost(ctx context.Context, l *link, err error) bool {
	if err == nil || ctx.Err() != nil || errors.Is(err, errClosed) {
		return false
	}
	return !l.aliveAfter(err)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
