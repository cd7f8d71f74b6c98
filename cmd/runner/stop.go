//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/communicator/runner"
	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

// stop stops the command with all that it started, and says how it is then. A
// command that was never started will not be: nothing is left to stop.
func stop(o order, answer *runner.Writer) error {
	f, err := openFolder(o)
	if errors.Is(err, os.ErrNotExist) {
		return answer.WriteStatus(runner.Status{})
	}
	if err != nil {
		return err
	}
	status, err := f.halt()
	if err != nil {
		return err
	}
	return answer.WriteStatus(status)
}

// halt stops the command of a folder, if it runs, and returns how it is then.
func (f folder) halt() (status runner.Status, err error) {
	if status, err = f.status(); err != nil {
		return status, err
	}
	var st state
	if _, err := f.read("state.json", &st); err != nil {
		return status, err
	}
	switch status.State {
	case runner.Running:
		if err := syscall.Kill(st.PID, syscall.SIGUSR1); err != nil && !errors.Is(err, syscall.ESRCH) {
			return status, fmt.Errorf("reach the supervisor: %w", err)
		}
		for status.State == runner.Running {
			time.Sleep(20 * time.Millisecond)
			if status, err = f.status(); err != nil {
				return status, err
			}
		}
	case runner.Lost:
		// The supervisor is gone; the session of its command may still be there.
		if session := f.orphans(); session > 1 {
			end(func() []int { return inSession(session) }, 10*time.Second)
		}
	}
	return status, nil
}

// A child is the first process of the command, and so its session.
type child struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// orphans is the session of a command whose supervisor died; 0 when nothing is
// left of it, or its number belongs to somebody else by now.
func (f folder) orphans() int {
	var c child
	if ok, err := f.read("child.json", &c); err != nil || !ok {
		return 0
	}
	// The number is not given to another process while the session lives.
	if p, ok := proc.Read(c.PID); ok && p.Start != c.Start {
		return 0
	}
	return c.PID
}

// clean removes all that is kept for a build, and ends with the removal of the
// base if that is empty. What still runs of its commands is stopped first: a
// visitor's, whose agent was cut off before it could do so.
func clean(o order) error {
	build := order{base: o.base, build: o.build}
	if _, err := openFolder(build); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	dir := filepath.Join(o.base, o.build)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		f := folder{path: filepath.Join(dir, e.Name()), boot: o.boot}
		if _, err := f.halt(); err != nil {
			return fmt.Errorf("stop command %s: %w", e.Name(), err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	// Not ours to remove while other builds use it.
	_ = os.Remove(o.base)
	return nil
}
