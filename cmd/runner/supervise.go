//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/communicator/runner"
	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

// supervise runs the command, to its end. It outlives whoever asked for it:
// it has a session of its own and takes no notice of SIGHUP and SIGPIPE.
func supervise(args []string, ready *os.File) error {
	if len(args) != 3 {
		return errors.New("supervise is not for people")
	}
	f, cwd := folder{path: args[0]}, args[1]
	if err := json.Unmarshal([]byte(args[2]), &f.boot); err != nil {
		return err
	}
	// Caught, not ignored: what is ignored stays ignored in the command, and
	// shells rely on SIGPIPE.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGINT, syscall.SIGQUIT,
		syscall.SIGTERM, syscall.SIGUSR1)
	// Orphans of the command come to us, so that stop finds all of them. Those
	// that outlive a normal end go to init when we leave, as daemons should.
	const prSetChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("become the subreaper: %w", errno)
	}
	var spec runner.Spec
	in := os.NewFile(specFD, "spec")
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("read the spec: %w", err)
	}
	in.Close()
	self, ok := proc.Read(os.Getpid())
	if !ok {
		return errors.New("cannot read /proc")
	}
	// Room first: once there is a state, whoever asks again takes the command
	// for one that ran.
	if err := f.reserve(); err != nil {
		return err
	}
	st := state{Boot: f.boot, PID: self.PID, Start: self.Start, Started: time.Now()}
	if err := f.write("state.json", st); err != nil {
		f.makeRoom()
		return err
	}
	c, err := launchCommand(f, cwd, spec)
	if err != nil {
		return c.fail(f, st, ready, err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	go reap(c.pid, ended)
	// Only for stop, should we die: then it ends the session of the command.
	first, _ := proc.Read(c.pid)
	if err := f.replace("child.json", child{PID: c.pid, Start: first.Start}, false); err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
	}
	fmt.Fprintln(ready, "ok")
	ready.Close()
	r, ok := c.await(spec, signals, ended)
	if !ok {
		f.makeRoom()
		return f.replace("down.json", goingDownNote{time.Now()}, false)
	}
	r.Started = st.Started
	if err := c.finish(f, r); err != nil {
		return err
	}
	if c.out != nil {
		// From now on, only daemons need us; the command is over.
		c.log.file.Close()
		_ = syscall.Close(lockFD)
		signal.Ignore(syscall.SIGUSR1)
		go func() {
			for sig := range signals {
				if sig == syscall.SIGTERM {
					os.Exit(0)
				}
			}
		}()
		c.out.linger()
	}
	return nil
}

// A command is the process that the spec asks for.
type command struct {
	pid int
	log *journal
	out *conduit  // nil with a terminal
	pty *terminal // nil without
}

// launchCommand starts the login shell with the line, writing to the log.
func launchCommand(f folder, cwd string, spec runner.Spec) (command, error) {
	log, err := openJournal(f)
	if err != nil {
		return command{}, err
	}
	c := command{log: log}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return c, err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{
		Dir: cwd, Env: environment(spec),
		Sys: &syscall.SysProcAttr{Setsid: true},
	}
	if spec.Pty {
		t, err := openTerminal(log)
		if err != nil {
			return c, fmt.Errorf("open a terminal: %w", err)
		}
		defer t.slave.Close()
		c.pty = t
		go t.copy()
		tty := t.slave.Fd()
		attr.Files = []uintptr{tty, tty, tty}
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	} else {
		if c.out, err = openConduit(); err != nil {
			return c, fmt.Errorf("open a pipe: %w", err)
		}
		defer c.out.write.Close()
		go c.out.copy(log)
		end, err := dupFile(c.out.write)
		if err != nil {
			return c, err
		}
		defer syscall.Close(end)
		attr.Files = []uintptr{null.Fd(), uintptr(end), uintptr(end)}
	}
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	c.pid, err = syscall.ForkExec(shell, []string{filepath.Base(shell), "-c", spec.Line}, attr)
	if err != nil {
		return c, fmt.Errorf("start %s: %w", shell, err)
	}
	return c, nil
}

// dupFile returns a descriptor that blocks, as programs expect: asking an
// os.File for its own would make both ends so.
func dupFile(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := conn.Control(func(from uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, err = syscall.Dup(int(from)); err == nil {
			syscall.CloseOnExec(fd)
			err = syscall.SetNonblock(fd, false)
		}
	})
	return fd, errors.Join(err, cerr)
}

// environment is the login's own, and what the spec adds.
func environment(spec runner.Spec) []string {
	add := map[string]string{}
	if spec.Pty && os.Getenv("TERM") == "" {
		add["TERM"] = "xterm"
	}
	// The login shell that called us has read its start-up files: what they
	// export is here. By this, bash knows that it need not read them again.
	if level := os.Getenv("SHLVL"); level == "" || level == "0" {
		add["SHLVL"] = "1"
	}
	maps.Copy(add, spec.Env)
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if _, replaced := add[name]; !replaced {
			env = append(env, kv)
		}
	}
	for name, value := range add {
		env = append(env, name+"="+value)
	}
	return env
}

// reap waits for the command, and for every orphan that comes to us meanwhile.
func reap(pid int, ended chan<- syscall.WaitStatus) {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return
		case got == pid && (status.Exited() || status.Signaled()):
			ended <- status
		}
	}
}

// await waits until the command has ended, by itself or because its time is
// over or it is to stop. ok is false when the machine goes down: then nobody
// knows how the command would have ended, and there must be no result.
func (c command) await(spec runner.Spec, signals <-chan os.Signal, ended <-chan syscall.WaitStatus) (r runner.Result, ok bool) {
	grace := spec.Grace
	if grace == 0 {
		grace = 10 * time.Second
	}
	var timeout <-chan time.Time
	if spec.Timeout > 0 {
		timer := time.NewTimer(spec.Timeout)
		defer timer.Stop()
		timeout = timer.C
	}
	endAll := func() { end(func() []int { return below(os.Getpid()) }, grace) }
	for {
		select {
		case status := <-ended:
			r.Exit = exitOf(status)
			if goingDown(r.Exit, signals) {
				return r, false
			}
			return r, true
		case <-timeout:
			r.TimedOut, timeout = true, nil
			endAll()
		case sig := <-signals:
			switch sig {
			case syscall.SIGUSR1: // from stop
				r.Stopped = true
				endAll()
			case syscall.SIGTERM:
				// Nobody but a machine that goes down sends this to us.
				return r, false
			}
		}
	}
}

// goingDown tells whether the command was ended together with us, by a machine
// that goes down. A moment later the signal would have reached us first.
func goingDown(exit int, signals <-chan os.Signal) bool {
	if exit != 128+int(syscall.SIGTERM) && exit != 128+int(syscall.SIGHUP) && exit != 128+int(syscall.SIGKILL) {
		return false
	}
	moment := time.After(300 * time.Millisecond)
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGTERM {
				return true
			}
		case <-moment:
			return false
		}
	}
}

func exitOf(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// finish records the result. The length of the log is taken first: what
// daemons write to it from now on is not the command's.
func (c command) finish(f folder, r runner.Result) error {
	// A script may have filled the disk; what it printed of that is worth more
	// than the room that was kept.
	f.makeRoom()
	switch {
	case c.pty != nil:
		c.pty.drain()
	case c.out != nil:
		c.out.drain(c.log)
	}
	size, err := c.log.end()
	if err != nil {
		return err
	}
	r.LogBytes, r.Ended = size, time.Now()
	return f.record(r)
}

// fail records that the command could not even be started, as a shell would:
// with status 127 and a line that says why.
func (c command) fail(f folder, st state, ready io.WriteCloser, why error) error {
	if c.log == nil {
		return why
	}
	fmt.Fprintln(c.log, why)
	if err := c.finish(f, runner.Result{Exit: 127, Started: st.Started}); err != nil {
		return err
	}
	fmt.Fprintln(ready, "ok")
	return ready.Close()
}
