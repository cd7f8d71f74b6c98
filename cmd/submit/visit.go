package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
)

var execTopic = topic{
	name: "exec", args: "BUILD COMMAND...", least: 2, most: -1,
	summary: "run a command on the machine of a build, through its agent",
	text: `
Runs a command on the machine of a build that runs or waits, and shows what it
prints as it comes. The agent runs it, so that the machine needs no way in from
here; it outlives this program, and its output is in the build's log. What it
changes on the machine may become part of the image. Flags stand before BUILD.`,
	exits: `  0  the command succeeded; another status is its own
  1  also when it could not be run: the build has ended, or its machine is finished
`,
	make: func() command { return new(execute) },
}

type execute struct{ connection }

func (e *execute) flags(f *flag.FlagSet) { e.connection.flags(f) }

func (e *execute) run(ctx context.Context, c *console, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	f, id, err := e.living(ctx, c, args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	line := args[1:]
	if line[0] == "--" {
		line = line[1:]
	}
	if len(line) == 0 {
		return errors.New("which command? submit exec BUILD -- COMMAND")
	}
	name := visitName()
	show, end := context.WithCancel(ctx)
	shown := make(chan error, 1)
	build := farm.BuildID(id)
	go func() {
		shown <- f.FollowStep(show, build, "-exec-"+name, func(l buildlog.Line) {
			end := "\n"
			if l.Partial {
				end = ""
			}
			fmt.Fprint(c.out, l.Text+end)
		})
	}()
	status, err := f.Execute(ctx, id, name, shellLine(line))
	end()
	if lerr := <-shown; err == nil {
		err = lerr
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(c.err, "Leaving; the command goes on, and its output is in the build's log.")
		return failed
	case err != nil:
		return err
	case status != 0:
		return exit(status)
	}
	return nil
}

// shellLine is the line that a shell on the machine is given: one argument is
// a line already, several are quoted, as ssh would not.
func shellLine(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	var quoted []string
	for _, a := range args {
		quoted = append(quoted, "'"+strings.ReplaceAll(a, "'", `'\''`)+"'")
	}
	return strings.Join(quoted, " ")
}

// visitName is a name that nobody else has.
func visitName() string { return strings.ToLower(rand.Text()[:10]) }

var sshTopic = topic{
	name: "ssh", args: "BUILD [COMMAND...]", least: 1, most: -1,
	summary: "open a shell on the machine of a build",
	text: `
Logs in to the machine of a build that runs or waits, with the ssh of this
computer and a key that is made for this session and taken off the machine after
it. The machine must be reachable from here: directly (the farm on this machine,
a VPN), through AWS Session Manager with your own AWS credentials and the AWS
CLI's plugin, or through a program of yours. Where it is not, "submit exec" goes
through the agent. Flags stand before BUILD.`,
	exits: `  0  the session ended well; another status is what ssh ended with
  1  also when nobody was let in
`,
	make: func() command { return new(visit) },
}

type visit struct {
	connection
	way
}

func (v *visit) flags(f *flag.FlagSet) {
	v.connection.flags(f)
	v.way.flags(f)
}

func (v *visit) run(ctx context.Context, c *console, args []string) error {
	if err := v.way.check(v.local); err != nil {
		return err
	}
	program, err := exec.LookPath("ssh")
	if err != nil {
		return errors.New("there is no ssh on this computer: install the OpenSSH client, or use submit exec")
	}
	f, id, err := v.living(ctx, c, args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	dir, err := os.MkdirTemp("", "bakehouse-ssh-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	public, err := sessionKey(filepath.Join(dir, "key"))
	if err != nil {
		return err
	}
	name := visitName()
	door, err := f.Admit(ctx, id, name, public)
	if err != nil {
		return err
	}
	defer func() {
		// Also when Ctrl-C ended the session: the key must go.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := f.Dismiss(ctx, id, name); err != nil && !errors.Is(err, farm.ErrEnded) {
			fmt.Fprintf(c.err, "The session's key is still on the machine, and goes when the build is done with it: %v\n", err)
		}
	}()
	line, err := v.way.line(door, dir)
	if err != nil {
		return err
	}
	rest := args[1:]
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	cmd := exec.Command(program, append(line, rest...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.out, c.err
	// Ctrl-C is for the shell on the machine; ssh takes care of it.
	signal.Ignore(syscall.SIGINT)
	defer signal.Reset(syscall.SIGINT)
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		if ended.ExitCode() == sshFailed {
			v.way.advise(ctx, c, door, v.local)
		}
		return exit(ended.ExitCode())
	}
	return err
}

// sshFailed is what ssh ends with when it has failed itself.
const sshFailed = 255

// sessionKey writes a new private key and returns the public one.
func sessionKey(path string) (string, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return "", err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}
