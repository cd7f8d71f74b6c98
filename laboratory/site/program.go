// Package site is a farm on this machine as a fault laboratory needs it: the
// real programs as processes that can be killed, frozen and started again,
// each agent in a network namespace of its own.
package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// A starter starts programs somewhere.
type starter interface{ Start(cmd *exec.Cmd) error }

// A Program is a process that is to run, whatever happens to it.
type Program struct {
	Name string
	// Path and Args are what is run; Path may be changed between a Stop and a Start.
	Path string
	Args []string

	env   []string
	in    starter
	log   string
	ready string // what it prints when it can be used

	busy   sync.Mutex // held by who does something to it
	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	begins int // where in the log this process begins
}

// Take reserves the program for a fault; it tells whether it was free.
// Release gives it back.
func (p *Program) Take() bool { return p.busy.TryLock() }

// Release ends what Take began.
func (p *Program) Release() { p.busy.Unlock() }

// Start starts the program and waits until it says that it is ready.
func (p *Program) Start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return err
	}
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, log, log
	if err := p.in.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	p.mu.Lock()
	p.cmd, p.exited, p.begins = cmd, exited, int(info.Size())
	p.mu.Unlock()
	return p.AwaitReady(ctx)
}

// AwaitReady waits until the process says that it is ready. When it does not
// within two minutes, or has ended, that is an error.
func (p *Program) AwaitReady(ctx context.Context) error {
	if p.ready == "" {
		return nil
	}
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	if exited == nil {
		return fmt.Errorf("%s does not run", p.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		if bytes.Contains(p.said(), []byte(p.ready)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not get ready: %w", p.Name, ctx.Err())
		case <-exited:
			return fmt.Errorf("%s ended at once: %s", p.Name, tail(p.said(), 500))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// said is what the process has printed.
func (p *Program) said() []byte {
	p.mu.Lock()
	begins := p.begins
	p.mu.Unlock()
	data, err := os.ReadFile(p.log)
	if err != nil || len(data) < begins {
		return nil
	}
	return data[begins:]
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// Signal sends a signal to the process. One that has ended is an error.
func (p *Program) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.Name)
	}
	return p.cmd.Process.Signal(s)
}

// Kill kills the process and waits until it is gone.
func (p *Program) Kill() error { return p.end(syscall.SIGKILL, 10*time.Second) }

// Stop asks the process to end and waits until it has, for a minute at most.
func (p *Program) Stop() error { return p.end(syscall.SIGTERM, time.Minute) }

func (p *Program) end(s syscall.Signal, patience time.Duration) error {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.Name, err)
	}
	select {
	case <-exited:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s does not end after %s", p.Name, patience)
	}
}

// Runs tells whether the process is there.
func (p *Program) Runs() bool {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	if exited == nil {
		return false
	}
	select {
	case <-exited:
		return false
	default:
		return true
	}
}
