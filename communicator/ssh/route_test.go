package ssh

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/communicator/communicatortest"
	"github.com/bakehouse-farm/bakehouse/communicator/pipe"
)

// The promises of communicator.Communicator hold through a program, and so
// does the host key.
func TestRoute(t *testing.T) {
	target := communicatortest.SSHD(t)
	communicatortest.NewSessions(t, target, "i-1", "eu-west-1")
	plugin, err := exec.LookPath("session-manager-plugin")
	if err != nil {
		t.Fatal(err)
	}
	target.Host = "i-1" // no address
	var opened atomic.Int32
	target.Route = func(context.Context) (net.Conn, error) {
		opened.Add(1)
		return pipe.Command{Path: plugin}.Dial()
	}
	communicatortest.Run(t, func(t *testing.T) communicator.Communicator { return dial(t, target) })

	before := opened.Load()
	c := dial(t, target)
	l, err := c.current()
	if err != nil {
		t.Fatal(err)
	}
	l.close()
	if _, _, err := c.Exec(t.Context(), "true"); err != nil {
		t.Errorf("after the connection was lost: %v", err)
	}
	if n := opened.Load() - before; n != 2 {
		t.Errorf("%d connections were opened, want 2", n)
	}
	target.HostKey = c.HostKey()
	dial(t, target)
	target.HostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrbQVjvmdrDYj8T3bV7Qc5ZK5U9QqvVb8m2W9cE5Y1T"
	if _, err := Dial(t.Context(), target, Options{}); bakehouse.KindOf(err) != bakehouse.Lost {
		t.Errorf("another machine: %v", err)
	}
}

// A route that says why it cannot lead there for good is not tried again.
func TestRouteDenied(t *testing.T) {
	target := communicatortest.SSHD(t)
	var opened atomic.Int32
	target.Route = func(context.Context) (net.Conn, error) {
		if opened.Add(1) == 1 {
			return nil, errors.New("not connected yet")
		}
		return pipe.Command{
			Path: "/bin/sh", Args: []string{"-c", "echo not you >&2; exit 1"},
			Verdict: func(_ string, failed error) error { return bakehouse.Errorf(bakehouse.Denied, "%w", failed) },
		}.Dial()
	}
	_, err := Dial(t.Context(), target, Options{})
	if bakehouse.KindOf(err) != bakehouse.Denied || !strings.Contains(err.Error(), "not you") || opened.Load() != 2 {
		t.Errorf("after %d tries: %v", opened.Load(), err)
	}
}
