package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// A Status says how one process is.
type Status struct {
	Name    string
	Running bool
	PID     int
	Started time.Time
	// Address is where it listens, if it does; UI where its web interface does.
	Address, UI string
	Log         string
}

// Inspect says how the processes of a state folder are, in the order in which
// they are started. One that was never started has no PID.
func Inspect(c Config) ([]Status, error) {
	s, err := c.load()
	if err != nil {
		return nil, err
	}
	out := make([]Status, len(names))
	for i, name := range names {
		out[i].Name = name
		if p := s[name]; p != nil {
			out[i] = Status{
				Name: name, Running: p.alive(), PID: p.PID, Started: p.Started,
				Address: p.Address, UI: p.UI, Log: p.Log,
			}
		}
	}
	return out, nil
}

// Stop ends the processes and returns the names of those that ran. What they
// were doing goes on when they are started again. before is called when the
// agent has ended and the others still run; it may be nil.
func Stop(ctx context.Context, c Config, before func(*Set)) ([]string, error) {
	if _, err := os.Stat(c.State); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := c.load()
	if err != nil {
		return nil, err
	}
	l := &launch{Config: c, record: s}
	for _, name := range names {
		l.adopt(name)
	}
	var stopped []string
	stop := func(name string, patience time.Duration) {
		if p := s[name]; p != nil && p.alive() {
			p.end(patience)
			stopped = append(stopped, name)
		}
		if p := s[name]; p != nil {
			p.Ready = false
		}
	}
	stop(agentName, 20*time.Second)
	if p := s[cloudName]; before != nil && p != nil && p.alive() {
		before(c.set(s, nil))
	}
	stop(cloudName, 15*time.Second)
	stop(serverName, 10*time.Second)
	if len(s) == 0 {
		return stopped, nil
	}
	return stopped, c.save(s)
}
