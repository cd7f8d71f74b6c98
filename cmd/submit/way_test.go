package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/communicator/communicatortest"
	"github.com/bakehouse-farm/bakehouse/communicator/ssh"
)

// doorTo is the door to a target, with its key in a folder as a visitor has it.
func doorTo(t *testing.T, target communicator.Target) (farm.Door, string) {
	t.Helper()
	hostKey, err := ssh.Wait(t.Context(), target, ssh.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(target.PrivateKey), 0o600); err != nil {
		t.Fatal(err)
	}
	return farm.Door{
		Host: target.Host, Port: target.Settings.SSHPort, User: target.Settings.SSHUsername, HostKey: hostKey,
		Machine: "i-0abc", Region: "eu-west-1",
	}, dir
}

// enter runs the ssh of this computer.
func enter(t *testing.T, w way, d farm.Door, dir string) (string, int) {
	t.Helper()
	line, err := w.line(d, dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ssh", append(line, "echo inside; exit 7")...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Skip("no ssh on this machine: ", err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// On each way ssh gets in, to the machine whose key the build has pinned and to
// no other.
func TestWays(t *testing.T) {
	target := communicatortest.SSHD(t)
	door, dir := doorTo(t, target)
	sessions := communicatortest.NewSessions(t, target, "i-0abc", "eu-west-1")
	t.Setenv("AWS_PROFILE", "mine")
	ours := door
	ours.Host, ours.Via = "i-0abc", "session-manager"
	away := door
	away.Host = "away.invalid"
	other := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrbQVjvmdrDYj8T3bV7Qc5ZK5U9QqvVb8m2W9cE5Y1T"
	tests := []struct {
		name     string
		way      way
		door     farm.Door
		sessions int
	}{
		{"as the build", way{}, door, 0},
		{"direct", way{via: "direct"}, door, 0},
		{"session manager", way{via: "session-manager"}, away, 1},
		{"session manager, as the build", way{}, ours, 1},
		{"own command", way{proxy: sessions.Path() + "/session-manager-plugin %h %p"}, away, 0},
		{"own command, to what the build reaches otherwise", way{proxy: sessions.Path() + "/session-manager-plugin"}, ours, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(sessions.Started(t))
			if out, code := enter(t, tt.way, tt.door, dir); out != "inside\n" || code != 7 {
				t.Errorf("exit %d: %s", code, out)
			}
			if n := len(sessions.Started(t)) - before; n != tt.sessions {
				t.Errorf("%d sessions, want %d", n, tt.sessions)
			}
			d := tt.door
			d.HostKey = other
			if out, code := enter(t, tt.way, d, dir); code != 255 || strings.Contains(out, "inside") {
				t.Errorf("let in by another machine: exit %d: %s", code, out)
			}
		})
	}
	for _, s := range sessions.Started(t) {
		if !strings.HasSuffix(s, "/mine") {
			t.Errorf("session with other credentials than the visitor's: %s", s)
		}
	}
	sessions.WithoutPlugin(t)
	t.Setenv("PATH", sessions.Path())
	if err := (&way{via: "session-manager"}).check(false); err == nil || !strings.Contains(err.Error(), "session-manager-plugin") {
		t.Errorf("without the plugin: %v", err)
	}
}

// A door that has no such way is refused, and no shell reads what a farm says.
func TestNoWay(t *testing.T) {
	door := farm.Door{Host: "10.0.0.1", Port: 22, User: "admin", HostKey: "k", Machine: "i-1", Region: "r"}
	target := communicator.Target{Settings: communicator.Settings{SSHPort: 22}}
	communicatortest.NewSessions(t, target, "i-1", "r")
	for name, tt := range map[string]struct {
		way    way
		change func(*farm.Door)
		want   string
	}{
		"nothing started": {way{via: "session-manager"}, func(d *farm.Door) { d.Machine, d.Region = "", "r" }, "the build has started no machine"},
		"evil machine":    {way{via: "session-manager"}, func(d *farm.Door) { d.Machine = "i-1;id" }, "not \"i-1;id\""},
		"evil region":     {way{}, func(d *farm.Door) { d.Via, d.Region = "session-manager", "$(id)" }, "not \"i-1\" in \"$(id)\""},
		"newer build":     {way{}, func(d *farm.Door) { d.Via = "teleport" }, "via teleport, which this submit does not know"},
	} {
		d := door
		tt.change(&d)
		if line, err := tt.way.line(d, t.TempDir()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %q, %v", name, line, err)
		}
	}
}

// Who cannot get in is told how else to.
func TestAdvice(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := l.Addr().(*net.TCPAddr).Port
	for _, tt := range []struct {
		name  string
		way   way
		door  farm.Door
		local bool
		want  []string // none: nothing is said
		not   string
	}{
		{"closed", way{}, farm.Door{Host: "127.0.0.1", Port: 1, Machine: "i-1", Region: "r"}, false, []string{"127.0.0.1:1", "-via=session-manager", "-proxy-command", "submit exec"}, "-local"},
		{"no instance", way{}, farm.Door{Host: "127.0.0.1", Port: 1, Region: "r"}, false, []string{"-proxy-command", "submit exec"}, "session-manager"},
		{"on this computer", way{}, farm.Door{Host: "127.0.0.1", Port: 1, Machine: "i-1", Region: "r"}, true, []string{"submit exec"}, "session-manager"},
		{"open", way{}, farm.Door{Host: "127.0.0.1", Port: open}, false, nil, ""},
		{"session", way{via: "session-manager"}, farm.Door{Machine: "i-1", Region: "r"}, false, []string{"i-1 in r", "ssm:StartSession", "submit exec"}, "-via="},
		{"own", way{proxy: "false"}, farm.Door{Host: "127.0.0.1", Port: 1}, false, []string{"-proxy-command"}, "-via="},
	} {
		var out bytes.Buffer
		tt.way.advise(t.Context(), &console{err: &out}, tt.door, tt.local)
		if len(tt.want) == 0 && out.Len() > 0 || tt.not != "" && strings.Contains(out.String(), tt.not) {
			t.Errorf("%s: %s", tt.name, &out)
		}
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q is missing from %q", tt.name, want, &out)
			}
		}
	}
}
