//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/communicator/runner"
)

// What the supervisor inherits, besides its standard files.
const (
	lockFD  = 3
	readyFD = 4
	specFD  = 5
)

// startLimit bounds how long another call may take to start the command.
const startLimit = 30 * time.Second

// start starts the command unless it has been started before. However many
// call it at once, the command runs once: only who has the lock starts, and
// the supervisor inherits the lock.
func start(o order, spec runner.Spec) (runner.Status, error) {
	f, err := makeFolder(o)
	if err != nil {
		return runner.Status{}, err
	}
	for limit := time.Now().Add(startLimit); ; time.Sleep(5 * time.Millisecond) {
		if s, err := f.status(); err != nil || s.State != runner.None {
			return s, err
		}
		lock, got, err := f.lock()
		if err != nil {
			return runner.Status{}, err
		}
		if got {
			defer lock.Close() // the supervisor has its own
			// Another call may have started it between the look and the lock.
			if s, err := f.status(); err != nil || s.State != runner.None {
				return s, err
			}
			return runner.Status{State: runner.Started}, launch(o, f, lock, spec)
		}
		if time.Now().After(limit) {
			return runner.Status{}, errors.New("another call holds the lock and does not start the command")
		}
	}
}

// launch starts the supervisor and returns when its command is started.
func launch(o order, f folder, lock *os.File, spec runner.Spec) error {
	log, err := f.open("log", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	log.Close()
	trouble, err := f.open("trouble", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer trouble.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer readyR.Close()
	defer readyW.Close()
	specR, specW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer specR.Close()
	defer specW.Close()

	cwd, err := os.Getwd()
	if err != nil {
		cwd = "/"
	}
	cmd := exec.Command("/proc/self/exe", "supervise", f.path, cwd)
	cmd.Dir = "/" // hold no folder that somebody wants to unmount
	cmd.Stderr = trouble
	cmd.ExtraFiles = []*os.File{lock, readyW, specR}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Args[0] = "bakehouse-runner"
	// The supervisor must not read the boot ID again: it was given for this call.
	boot, err := json.Marshal(o.boot)
	if err != nil {
		return err
	}
	cmd.Args = append(cmd.Args, string(boot))
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	// A supervisor that ends while this process still follows is no zombie.
	go func() { _ = cmd.Wait() }()
	readyW.Close()
	specR.Close()
	go func() {
		_ = json.NewEncoder(specW).Encode(spec) // a supervisor that does not read says why
		specW.Close()
	}()
	word, err := bufio.NewReader(readyR).ReadString('\n')
	switch {
	case word == "ok\n":
		return nil
	case errors.Is(err, io.EOF) && word == "":
		return fmt.Errorf("supervisor died at the start: %s", f.trouble())
	case err != nil:
		return fmt.Errorf("wait for the supervisor: %w", err)
	}
	return errors.New(strings.TrimSpace(word))
}
