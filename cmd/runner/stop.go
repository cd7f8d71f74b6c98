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
	status, err := f.status()
	if err != nil {
		return err
	}
	var st state
	if _, err := f.read("state.json", &st); err != nil {
		return err
	}
	switch status.State {
	case runner.Running:
		if err := syscall.Kill(st.PID, syscall.SIGUSR1); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("reach the supervisor: %w", err)
		}
		for status.State == runner.Running {
			time.Sleep(20 * time.Millisecond)
			if status, err = f.status(); err != nil {
				return err
			}
		}
	case runner.Lost:
		// The supervisor is gone; the session of its command may still be there.
		if session := f.orphans(); session > 1 {
			end(func() []int { return inSession(session) }, 10*time.Second)
		}
	}
	return answer.WriteStatus(status)
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
	if p, ok := readProcess(c.PID); ok && p.start != c.Start {
		return 0
	}
	return c.PID
}

// clean removes all that is kept for a build. It refuses while one of its
// commands still runs, and ends with the removal of the base if that is empty.
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
		status, err := f.status()
		if err != nil {
			return err
		}
		if status.State == runner.Running {
			return fmt.Errorf("command %s still runs", e.Name())
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	// Not ours to remove while other builds use it.
	_ = os.Remove(o.base)
	return nil
}
