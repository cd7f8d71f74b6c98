// Package local runs a whole farm on this machine, in the background: the
// embedded Temporal server, localcloud and one agent. Whoever needs them starts
// what is not there and joins what is; they outlive the program that started
// them. Everything they keep is in one folder, the state folder.
package local

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// Pool is the pool of the local agent.
const Pool = "local"

// Config says which processes are meant.
type Config struct {
	// State is the absolute path of the state folder. Required.
	State string
	// Programs is the folder with the programs server, localcloud and agent.
	// Empty: beside this executable.
	Programs string
	// Say is told what takes time; may be nil.
	Say func(string)
	// Patience is how long each program may take to be ready; 0 means a minute.
	Patience time.Duration
	// Ports are the preferred ports of Temporal, its web UI and localcloud; zero
	// means 7233, 8233 and 4566. Others are taken where those are not free.
	Ports Ports

	// euid stands in for the user in tests.
	euid func() int
}

// Ports are TCP ports on the loopback interface.
type Ports struct{ Temporal, UI, Cloud int }

// A Set is the running processes, as a client sees them.
type Set struct {
	// Address is Temporal's, UI the URL of its web interface, Endpoint the URL of
	// localcloud.
	Address, UI, Endpoint string
	// Store and Key are what submit and agent share.
	Store, Key string
	// Started names the programs that this call started; the others ran already.
	Started []string
}

// ErrNotRunning tells that the processes are not there and were not to be
// started.
var ErrNotRunning = errors.New("nothing runs")

func (c Config) say(text string) {
	if c.Say != nil {
		c.Say(text)
	}
}

func (c Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.State}, elem...)...)
}

// Key returns where the key file of the state folder is.
func (c Config) Key() string { return c.path("key") }

// Store returns the URL of the blob store in the state folder.
func (c Config) Store() string {
	return (&url.URL{Scheme: "file", Path: c.path("store")}).String()
}

// Start starts what does not run, waits until all is ready, and returns where
// it is. Several callers at once start one set. When it fails, it stops what it
// started.
func Start(ctx context.Context, c Config) (_ *Set, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := secret.LoadOrCreate(c.Key()); err != nil {
		return nil, err
	}
	s, err := c.load()
	if err != nil {
		return nil, err
	}
	l := &launch{Config: c, record: s}
	if err := l.all(ctx); err != nil {
		l.undo()
		return nil, err
	}
	return c.set(s, l.started), nil
}

// Join returns the set when its server runs, else ErrNotRunning.
func Join(c Config) (*Set, error) {
	s, err := c.load()
	if err != nil {
		return nil, err
	}
	if p := s[serverName]; p == nil || !p.alive() {
		return nil, fmt.Errorf("%w in %s (start it with: submit build -local)", ErrNotRunning, c.State)
	}
	return c.set(s, nil), nil
}

func (c Config) set(s record, started []string) *Set {
	set := &Set{Store: c.Store(), Key: c.Key(), Started: started}
	if p := s[serverName]; p != nil {
		set.Address, set.UI = p.Address, "http://"+p.UI
	}
	if p := s[cloudName]; p != nil {
		set.Endpoint = "http://" + p.Address
	}
	return set
}

// Keep starts again what dies, until ctx ends: a build that somebody looks at
// should not wait for them to notice. Trouble is said once, also that the disk
// is full: then nothing dies, and nothing moves.
func Keep(ctx context.Context, c Config) {
	said, full := "", false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		if text := c.full(); text != "" || full {
			if text == "" {
				c.say("There is room again: builds go on.")
			} else if !full {
				c.say(text)
			}
			full = text != ""
		}
		s, err := c.load()
		if err != nil || s.complete() {
			continue
		}
		set, err := Start(ctx, c)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && err.Error() != said:
			said = err.Error()
			c.say(said)
		case err == nil:
			said = ""
			for _, name := range set.Started {
				c.say(name + " was gone and has been started again")
			}
		}
	}
}

// DefaultState is the state folder when nobody names one: $BAKEHOUSE_STATE, else
// /var/lib/bakehouse.
func DefaultState() string {
	if s := os.Getenv("BAKEHOUSE_STATE"); s != "" {
		return s
	}
	return "/var/lib/bakehouse"
}
