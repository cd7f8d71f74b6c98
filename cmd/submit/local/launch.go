package local

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// A launch brings a set up.
type launch struct {
	Config
	record  record
	started []string
}

// A program is how one of the processes is run.
type program struct {
	name string
	args []string
	env  []string
	// address and ui are where it will listen; empty where it does not.
	address, ui string
	// ready is what it says when it is.
	ready string
	// drain is how long it may take to end.
	drain time.Duration
}

// all starts what does not run, and waits for everything.
func (l *launch) all(ctx context.Context) error {
	for _, name := range names {
		l.adopt(name)
	}
	server, err := l.server()
	if err != nil {
		return err
	}
	cloud, err := l.cloud()
	if err != nil {
		return err
	}
	// Only one goroutine at a time touches the record.
	for _, p := range []program{server, cloud} {
		if err := l.start(p); err != nil {
			return err
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	rest := l.record[cloudName]
	group.Go(func() error { return l.await(gctx, cloud, rest) })
	group.Go(func() error {
		if err := l.await(gctx, server, l.record[serverName]); err != nil {
			return err
		}
		agent := l.agent(server, cloud)
		if err := l.start(agent); err != nil {
			return err
		}
		return l.await(gctx, agent, l.record[agentName])
	})
	if err := group.Wait(); err != nil {
		return err
	}
	for _, name := range names {
		l.record[name].Ready = true
	}
	return l.save(l.record)
}

func (l *launch) server() (program, error) {
	address, err := l.listen(serverName, l.Ports.Temporal, 7233, func(p *process) string { return p.Address })
	if err != nil {
		return program{}, err
	}
	ui, err := l.listen(serverName, l.Ports.UI, 8233, func(p *process) string { return p.UI })
	if err != nil {
		return program{}, err
	}
	return program{
		name: serverName, address: address, ui: ui,
		args:  []string{"-state", l.path("temporal"), "-listen", address, "-ui", ui},
		ready: "temporal is listening", drain: 10 * time.Second,
	}, nil
}

func (l *launch) cloud() (program, error) {
	address, err := l.listen(cloudName, l.Ports.Cloud, 4566, func(p *process) string { return p.Address })
	if err != nil {
		return program{}, err
	}
	return program{
		name: cloudName, address: address,
		args:  []string{"serve", "-listen", address, "-state", l.path("cloud")},
		ready: "localcloud is listening", drain: 15 * time.Second,
	}, nil
}

func (l *launch) agent(server, cloud program) program {
	return program{
		name: agentName,
		args: []string{"-pool", Pool, "-store", l.Store(), "-key", l.Key(), "-state", l.path("agent"), "-address", server.address},
		env: []string{
			"TEMPORAL_ADDRESS=" + server.address,
			"AWS_ENDPOINT_URL=http://" + cloud.address,
			"AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
			"AWS_EC2_METADATA_DISABLED=true",
			"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		},
		ready: "agent is polling pool " + Pool, drain: 20 * time.Second,
	}
}

// adopt notes down a process that its starter did not live to note.
func (l *launch) adopt(name string) {
	if p := l.record[name]; p != nil && p.alive() {
		return
	}
	verb := "-state" // what the first argument is
	switch name {
	case cloudName:
		verb = "serve"
	case agentName:
		verb = "-pool"
	}
	if p := find(l.State, name, verb); p != nil {
		l.record[name] = p
	}
}

// listen chooses where a program listens: where it does or did, so that clients
// find it again; else at the preferred port; else at any that is free.
func (l *launch) listen(name string, preferred, otherwise int, of func(*process) string) (string, error) {
	if preferred == 0 {
		preferred = otherwise
	}
	want := net.JoinHostPort("127.0.0.1", strconv.Itoa(preferred))
	if p := l.record[name]; p != nil && of(p) != "" {
		want = of(p)
		if p.alive() {
			return want, nil
		}
	}
	for _, address := range []string{want, "127.0.0.1:0"} {
		if ln, err := net.Listen("tcp", address); err == nil {
			defer ln.Close()
			return ln.Addr().String(), nil
		}
	}
	return "", fmt.Errorf("no free port on the loopback interface for %s", name)
}

// start starts a program, unless it runs as it should. One that was built anew
// or must listen elsewhere is replaced: what it was doing goes on.
func (l *launch) start(p program) error {
	binary := filepath.Join(l.Programs, p.name)
	if old := l.record[p.name]; old != nil && old.alive() {
		if slices.Equal(old.Args, p.args) && old.Program == fingerprint(binary) {
			return nil
		}
		old.end(p.drain)
	}
	name := l.path("log", p.name+".log")
	out, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer out.Close()
	from, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	proc := &process{
		Started: time.Now().UTC().Truncate(time.Second), Address: p.address, UI: p.ui,
		Args: p.args, Program: fingerprint(binary), Log: name, From: from,
	}
	cmd := exec.Command(binary, p.args...)
	cmd.Dir = l.State
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(environ(os.Environ()), append(p.env, proc.mark(l.State, p.name))...)
	// A session of its own: Ctrl-C at our terminal is not meant for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	l.say("Starting " + p.name)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	proc.PID = cmd.Process.Pid
	proc.Birth, _ = birthOf(proc.PID)
	go func() { _ = cmd.Wait() }() // so that it is no zombie when it dies before us
	l.record[p.name] = proc
	l.started = append(l.started, p.name)
	return l.save(l.record)
}

// passed on to our processes, of which the agent asks Vault and Consul what a
// template's functions want, and the data source http what it names; what else
// there is in the environment belongs to whoever happened to start them.
var passed = []string{
	"PATH=", "HOME=", "USER=", "LANG=", "LC_", "TZ=", "TMPDIR=", "SSL_CERT_", "OTEL_", "GOMAXPROCS=", "GOMEMLIMIT=",
	"VAULT_", "CONSUL_", "HTTP_PROXY=", "HTTPS_PROXY=", "NO_PROXY=", "http_proxy=", "https_proxy=", "no_proxy=",
}

func environ(from []string) []string {
	return slices.DeleteFunc(slices.Clone(from), func(v string) bool {
		return !slices.ContainsFunc(passed, func(p string) bool { return strings.HasPrefix(v, p) })
	})
}

// await waits until a program has said that it is ready.
func (l *launch) await(ctx context.Context, p program, proc *process) error {
	if proc.Ready {
		return nil
	}
	patience := l.Patience
	if patience == 0 {
		patience = time.Minute
	}
	deadline := time.Now().Add(patience)
	for {
		alive := proc.alive() // asked first: what it said before it died is there
		text := proc.said()
		switch {
		case strings.Contains(text, p.ready):
			return nil
		case !alive:
			return fmt.Errorf("%s did not start%s", p.name, lastLines(proc.Log, text))
		case time.Now().After(deadline):
			return fmt.Errorf("%s was not ready within %s%s", p.name, patience, lastLines(proc.Log, text))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// said returns what the process has written to its log.
func (p *process) said() string {
	f, err := os.Open(p.Log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() >= p.From {
		_, _ = f.Seek(p.From, io.SeekStart)
	}
	data, _ := io.ReadAll(io.LimitReader(f, 1<<20))
	return string(data)
}

// lastLines quotes the end of a log in an error.
func lastLines(name, text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if lines[0] == "" && len(lines) == 1 {
		return " and said nothing; see " + name
	}
	if len(lines) > 10 {
		lines = lines[len(lines)-10:]
	}
	return "; the end of " + name + ":\n  " + strings.Join(lines, "\n  ")
}

// undo stops what this launch started.
func (l *launch) undo() {
	for _, name := range slices.Backward(l.started) {
		l.record[name].end(10 * time.Second)
	}
}
