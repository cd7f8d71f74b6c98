package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/communicator/ssh"
)

// machines reaches machines by the communicator that their settings name.
type machines struct{}

func (machines) Wait(ctx context.Context, t communicator.Target, files bakehouse.Files) (string, error) {
	if err := onlySSH(t); err != nil {
		return "", err
	}
	return ssh.Wait(ctx, t, options(files))
}

func (machines) Dial(ctx context.Context, t communicator.Target, files bakehouse.Files) (communicator.Communicator, error) {
	if err := onlySSH(t); err != nil {
		return nil, err
	}
	return ssh.Dial(ctx, t, options(files))
}

func onlySSH(t communicator.Target) error {
	if t.Settings.Communicator == "" || t.Settings.Communicator == "ssh" {
		return nil
	}
	return bakehouse.Errorf(bakehouse.Invalid, "communicator %q: this agent can reach machines by ssh only", t.Settings.Communicator)
}

func options(files bakehouse.Files) ssh.Options {
	return ssh.Options{Files: files, Runner: runner}
}

// runner returns the program that follows commands on a machine of the given
// architecture ("amd64", "arm64"). It lies beside this executable, where `make
// build` puts it. It is read once: fifty machines that start together would
// otherwise each have a copy of it in memory.
func runner(arch string) ([]byte, error) {
	read, ok := runners[arch]
	if !ok {
		return nil, fmt.Errorf("there is no runner for %s machines", arch)
	}
	return read()
}

var runners = map[string]func() ([]byte, error){
	"amd64": sync.OnceValues(func() ([]byte, error) { return readRunner("amd64") }),
	"arm64": sync.OnceValues(func() ([]byte, error) { return readRunner("arm64") }),
}

func readRunner(arch string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	name := filepath.Join(filepath.Dir(self), "runner-linux-"+arch)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("no runner for %s machines beside the agent (make build makes it): %w", arch, err)
	}
	return data, nil
}
