package activities

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/provisioners"
)

// Execute runs a command that a person asks for on the machine of a build,
// once, or follows it where it is. Its output goes to the log of the step. It
// returns the exit status.
func (a *Activities) Execute(ctx context.Context, s Step, l Login, line string) (int, error) {
	ctx, end, err := a.begin(ctx, s)
	if err != nil {
		return 0, err
	}
	exit, err := a.execute(ctx, s, l, line)
	return exit, end(err)
}

func (a *Activities) execute(ctx context.Context, s Step, l Login, line string) (exit int, err error) {
	output, ok := bakehouse.LogOf(ctx).(provisioners.Output)
	if !ok {
		return 0, errors.New("log of the step keeps no output")
	}
	err = a.reach(ctx, s, l, func(ctx context.Context, machine communicator.Communicator) error {
		c := communicator.Command{ID: s.Key, Line: line, Env: environment(s.Build, s)}
		result, err := machine.Run(ctx, c, output.Offset(c.ID), output.Sink(c.ID))
		exit = result.Exit
		return err
	})
	return exit, err
}

// A Door is what a visitor's own ssh needs to log in.
type Door struct {
	Host    string `json:"host"`
	Port    int    `json:"port"`
	User    string `json:"user"`
	HostKey string `json:"host_key"` // authorized_keys format
	// Machine and Region are where the platform knows the machine; empty for one
	// that the build did not start.
	Machine string `json:"machine,omitempty"`
	Region  string `json:"region,omitempty"`
	// Via is how the build itself reaches the machine (builders.Machine).
	Via string `json:"via,omitempty"`
}

// visitor marks the line of a visitor's key, so that Dismiss finds it.
const visitor = "bakehouse-visitor-"

// Admit lets a visitor log in with a key of their own, until Dismiss.
func (a *Activities) Admit(ctx context.Context, s Step, l Login, name, public string) (Door, error) {
	ctx, end, err := a.begin(ctx, s)
	if err != nil {
		return Door{}, err
	}
	door, err := a.admit(ctx, s, l, name, public)
	return door, end(err)
}

func (a *Activities) admit(ctx context.Context, s Step, l Login, name, public string) (Door, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		return Door{}, bakehouse.Errorf(bakehouse.Invalid, "public key: %w", err)
	}
	if name == "" || !visitName(name) {
		return Door{}, errVisitName(name)
	}
	// What is written to the file is what was parsed: no options, one line.
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " " + visitor + name
	target, err := a.target(ctx, s, l)
	if err != nil {
		return Door{}, err
	}
	err = a.onMachine(ctx, s, l, "umask 077; mkdir -p ~/.ssh; touch ~/.ssh/authorized_keys; "+
		"grep -qxF '"+line+"' ~/.ssh/authorized_keys || printf '%s\\n' '"+line+"' >>~/.ssh/authorized_keys")
	if err != nil {
		return Door{}, fmt.Errorf("admit the key: %w", err)
	}
	port := sshPort(target)
	bakehouse.LogOf(ctx).Say("Admitted a visitor's key to " + target.Settings.SSHUsername + "@" + target.Host + ":" + strconv.Itoa(port))
	return Door{Host: target.Host, Port: port, User: target.Settings.SSHUsername, HostKey: l.HostKey, Via: l.Machine.Via}, nil
}

// Dismiss removes a visitor's key. With an empty name it removes all of them.
func (a *Activities) Dismiss(ctx context.Context, s Step, l Login, name string) error {
	ctx, end, err := a.begin(ctx, s)
	if err != nil {
		return err
	}
	if !visitName(name) {
		return end(errVisitName(name))
	}
	pattern := visitor + name
	if name != "" {
		pattern += "$"
	}
	err = a.onMachine(ctx, s, l, "test ! -f ~/.ssh/authorized_keys || sed -i '/ "+pattern+"/d' ~/.ssh/authorized_keys")
	if err == nil {
		bakehouse.LogOf(ctx).Say("Removed the visitor's key")
	}
	return end(err)
}

// visitName tells whether a name can stand in a line for the shell, or is empty.
func visitName(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func errVisitName(name string) error {
	return bakehouse.Errorf(bakehouse.Invalid, "name of a visit %q: letters, digits and dashes only", name)
}

// onMachine runs a short command that may be run again.
func (a *Activities) onMachine(ctx context.Context, s Step, l Login, line string) error {
	return a.reach(ctx, s, l, func(ctx context.Context, machine communicator.Communicator) error {
		result, out, err := machine.Exec(ctx, line)
		if err == nil && result.Exit != 0 {
			err = bakehouse.Errorf(bakehouse.Script, "exit status %d: %s", result.Exit, strings.TrimSpace(string(out)))
		}
		return err
	})
}
