package local

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The programs are small shell scripts: real processes that say what the real
// ones say, note down that they were started, and can be killed.
var scripts = map[string]string{
	serverName: `echo started >> "${0%/*}/server.count"; echo "temporal is listening on $4"`,
	cloudName:  `echo started >> "${0%/*}/localcloud.count"; echo "localcloud is listening on http://$3"`,
	agentName:  `echo started >> "${0%/*}/agent.count"; env > "${0%/*}/agent.env"; echo "agent is polling pool local" >&2`,
}

// patient goes on until it is told to stop. It waits without a child: one that
// has just been forked looks like its parent.
const patient = "\ntrap 'exit 0' TERM\nexec 3<>\"${0%/*}/never\"\nwhile :; do read -r line <&3; done\n"

// stage makes a state folder and programs; what runs is stopped at the end.
func stage(t *testing.T) Config {
	t.Helper()
	programs := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(programs, "never"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range scripts {
		write(t, programs, name, text+patient)
	}
	c := Config{
		State: filepath.Join(t.TempDir(), "state"), Programs: programs, Patience: 30 * time.Second,
		Ports: Ports{freePort(t), freePort(t), freePort(t)}, euid: func() int { return 0 },
	}
	t.Cleanup(func() {
		if _, err := Stop(context.Background(), c, nil); err != nil {
			t.Errorf("stop: %v", err)
		}
		if left := processes(c.State); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return c
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	// Written aside: a program that runs cannot be written to.
	temp := filepath.Join(dir, name+".new")
	if err := os.WriteFile(temp, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// processes lists the processes that were started for a state folder.
func processes(state string) []string {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []string
	for _, p := range paths {
		if data, _ := os.ReadFile(p); strings.Contains(string(data), state) {
			out = append(out, strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return out
}

// counts says how often each program was started.
func counts(c Config) map[string]int {
	out := map[string]int{}
	for _, name := range names {
		data, _ := os.ReadFile(filepath.Join(c.Programs, name+".count"))
		out[name] = strings.Count(string(data), "\n")
	}
	return out
}

func start(t *testing.T, c Config) *Set {
	t.Helper()
	set, err := Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestStartThenJoin(t *testing.T) {
	c := stage(t)
	if _, err := Join(c); !errors.Is(err, ErrNotRunning) {
		t.Errorf("join before start: %v", err)
	}
	first := start(t, c)
	if diff := cmp.Diff([]string{serverName, cloudName, agentName}, first.Started); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
	if want := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Ports.Temporal)); first.Address != want {
		t.Errorf("Temporal at %s, want the preferred %s", first.Address, want)
	}
	second := start(t, c)
	joined, err := Join(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []*Set{second, joined} {
		if len(other.Started) > 0 || other.Address != first.Address || other.Endpoint != first.Endpoint {
			t.Errorf("joined %+v, want what was started: %+v", other, first)
		}
	}
}

// Submitters that come at the same time start one set.
func TestStartAtOnce(t *testing.T) {
	c := stage(t)
	var wg sync.WaitGroup
	errs := make([]error, 5)
	for i := range errs {
		wg.Go(func() { _, errs[i] = Start(context.Background(), c) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]int{serverName: 1, cloudName: 1, agentName: 1}, counts(c)); diff != "" {
		t.Errorf("starts (-want +got):\n%s", diff)
	}
}

// Whatever is killed is started again, where it was; the others are let be.
func TestStartAgainAfterKill(t *testing.T) {
	for _, victims := range [][]string{{serverName}, {cloudName}, {agentName}, {serverName, agentName}} {
		t.Run(strings.Join(victims, " and "), func(t *testing.T) {
			c := stage(t)
			first := start(t, c)
			s, err := c.load()
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]int{serverName: 1, cloudName: 1, agentName: 1}
			for _, v := range victims {
				if err := syscall.Kill(s[v].PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				want[v]++
				// A signal is delivered when the kernel gets round to it.
				eventually(t, v+" is dead", func() bool { _, alive := birthOf(s[v].PID); return !alive })
			}
			again := start(t, c)
			if again.Address != first.Address || again.Endpoint != first.Endpoint {
				t.Errorf("at %s and %s, was at %s and %s", again.Address, again.Endpoint, first.Address, first.Endpoint)
			}
			if diff := cmp.Diff(victims, again.Started); diff != "" {
				t.Errorf("started (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, counts(c)); diff != "" {
				t.Errorf("starts (-want +got):\n%s", diff)
			}
		})
	}
}

// A process whose starter died before noting it down is found, not doubled.
func TestAdopt(t *testing.T) {
	c := stage(t)
	start(t, c)
	if err := os.Remove(c.path("state.json")); err != nil {
		t.Fatal(err)
	}
	if set := start(t, c); len(set.Started) > 0 {
		t.Errorf("started %v, although they run", set.Started)
	}
}

// A process with the number of one of ours is not taken for it, and not
// signalled.
func TestForeignProcess(t *testing.T) {
	c := stage(t)
	start(t, c)
	if _, err := Stop(context.Background(), c, nil); err != nil {
		t.Fatal(err)
	}
	foreign := exec.Command("sleep", "1000")
	if err := foreign.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = foreign.Process.Kill()
		_ = foreign.Wait()
	}()
	s, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	s[agentName].PID = foreign.Process.Pid
	if err := c.save(s); err != nil {
		t.Fatal(err)
	}
	stopped, err := Stop(context.Background(), c, nil)
	if err != nil || len(stopped) > 0 {
		t.Errorf("stopped %v, %v", stopped, err)
	}
	if _, alive := birthOf(foreign.Process.Pid); !alive {
		t.Error("somebody else's process was killed")
	}
}

// Programs that were built anew replace those that run; a port that somebody
// took meanwhile is left to them, and the agent is told of the new one.
func TestReplace(t *testing.T) {
	t.Run("new agent", func(t *testing.T) {
		c := stage(t)
		start(t, c)
		write(t, c.Programs, agentName, "# new\n"+scripts[agentName]+patient)
		if diff := cmp.Diff([]string{agentName}, start(t, c).Started); diff != "" {
			t.Errorf("started (-want +got):\n%s", diff)
		}
	})
	t.Run("port taken", func(t *testing.T) {
		c := stage(t)
		first := start(t, c)
		s, _ := c.load()
		s[serverName].end(5 * time.Second)
		thief, err := net.Listen("tcp", first.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer thief.Close()
		again := start(t, c)
		if again.Address == first.Address {
			t.Errorf("server is at %s, which is taken", again.Address)
		}
		if diff := cmp.Diff([]string{serverName, agentName}, again.Started); diff != "" {
			t.Errorf("started (-want +got):\n%s", diff)
		}
		eventually(t, "agent was told where the server is", func() bool {
			env, _ := os.ReadFile(filepath.Join(c.Programs, "agent.env"))
			return strings.Contains(string(env), "TEMPORAL_ADDRESS="+again.Address+"\n")
		})
	})
}

// The agent gets localcloud's address and no credentials but the local ones,
// whatever the environment of whoever starts it.
func TestAgentEnvironment(t *testing.T) {
	t.Setenv("AWS_PROFILE", "production")
	t.Setenv("AWS_ACCESS_KEY_ID", "real")
	t.Setenv("TEMPORAL_NAMESPACE", "production")
	t.Setenv("PKR_VAR_password", "secret")
	t.Setenv("OTEL_SERVICE_NAME", "kept")
	t.Setenv("VAULT_ADDR", "https://vault:8200")
	t.Setenv("CONSUL_HTTP_ADDR", "consul:8500")
	c := stage(t)
	set := start(t, c)
	var env []string
	eventually(t, "agent has written its environment", func() bool {
		data, _ := os.ReadFile(filepath.Join(c.Programs, "agent.env"))
		env = strings.Split(string(data), "\n")
		return slices.Contains(env, "OTEL_SERVICE_NAME=kept")
	})
	for _, want := range []string{"AWS_ENDPOINT_URL=" + set.Endpoint, "AWS_ACCESS_KEY_ID=local", "TEMPORAL_ADDRESS=" + set.Address, "VAULT_ADDR=https://vault:8200", "CONSUL_HTTP_ADDR=consul:8500"} {
		if !slices.Contains(env, want) {
			t.Errorf("environment lacks %s", want)
		}
	}
	for _, v := range env {
		if strings.Contains(v, "production") || strings.Contains(v, "secret") || strings.Contains(v, "=real") {
			t.Errorf("environment holds %s", v)
		}
	}
}

// Stop stops everything; a second time there is nothing to stop.
func TestStop(t *testing.T) {
	c := stage(t)
	start(t, c)
	called := ""
	stopped, err := Stop(context.Background(), c, func(s *Set) { called = s.Endpoint })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{agentName, cloudName, serverName}, stopped); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if called == "" {
		t.Error("nobody was asked before localcloud stopped")
	}
	if left := processes(c.State); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if stopped, err := Stop(context.Background(), c, nil); err != nil || len(stopped) > 0 {
		t.Errorf("second time: %v, %v", stopped, err)
	}
	never := c
	never.State = filepath.Join(t.TempDir(), "never")
	if stopped, err := Stop(context.Background(), never, nil); err != nil || len(stopped) > 0 {
		t.Errorf("never started: %v, %v", stopped, err)
	}
	if _, err := os.Stat(never.State); err == nil {
		t.Error("stop made a state folder")
	}
}

// Keep brings back what dies while somebody looks on.
func TestKeep(t *testing.T) {
	c := stage(t)
	start(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		Keep(ctx, c)
		close(ended)
	}()
	s, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s[agentName].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "agent runs again", func() bool {
		s, err := c.load()
		return err == nil && s.complete() && counts(c)[agentName] == 2
	})
	cancel()
	<-ended
}

func TestInspect(t *testing.T) {
	c := stage(t)
	before, err := Inspect(c)
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	after, err := Inspect(c)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if before[i].Name != name || before[i].Running || before[i].PID != 0 {
			t.Errorf("before: %+v", before[i])
		}
		if after[i].Name != name || !after[i].Running || after[i].PID == 0 {
			t.Errorf("after: %+v", after[i])
		}
	}
}

// What cannot work is said plainly, with the way out, and leaves nothing.
func TestTrouble(t *testing.T) {
	full := func(t *testing.T, c *Config) {
		if os.Geteuid() != 0 {
			t.Skip("a small file system is mounted by root only")
		}
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
			t.Skipf("cannot mount here: %v", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, 0); err != nil {
				t.Errorf("unmount: %v", err)
			}
		})
		if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 100<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		c.State = dir
	}
	tests := []struct {
		name  string
		spoil func(*testing.T, *Config)
		want  []string
	}{
		{"not root", func(_ *testing.T, c *Config) { c.euid = func() int { return 1000 } }, []string{"needs root", "Docker", "sudo"}},
		{"state folder is a file", func(t *testing.T, c *Config) {
			c.State = filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(c.State, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"state folder", "not a directory", "-state"}},
		{"disk is full", full, []string{"state folder", "no space left on device", "-state"}},
		{"program is missing", func(t *testing.T, c *Config) {
			if err := os.Remove(filepath.Join(c.Programs, agentName)); err != nil {
				t.Fatal(err)
			}
		}, []string{"agent", "make build"}},
		{"server does not start", func(t *testing.T, c *Config) {
			write(t, c.Programs, serverName, "echo the database is damaged >&2\nexit 1\n")
		}, []string{"server did not start", "the database is damaged"}},
		{"localcloud does not start", func(t *testing.T, c *Config) {
			write(t, c.Programs, cloudName, "echo no overlay file system >&2\nexit 1\n")
		}, []string{"localcloud did not start", "no overlay file system"}},
		{"agent is never ready", func(t *testing.T, c *Config) {
			write(t, c.Programs, agentName, "echo still thinking"+patient)
			c.Patience = 300 * time.Millisecond
		}, []string{"agent was not ready within 300ms", "still thinking"}},
		{"record is damaged", func(t *testing.T, c *Config) {
			if err := os.MkdirAll(c.State, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(c.path("state.json"), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(c.path("state.json")) })
		}, []string{"state.json is damaged"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := stage(t)
			tt.spoil(t, &c)
			_, err := Start(context.Background(), c)
			if err == nil {
				_, _ = Stop(context.Background(), c, nil)
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error lacks %q: %v", w, err)
				}
			}
			if left := processes(c.State); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !fact(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen: " + what)
		}
	}
}

// That the disk is full is said once, and so is that there is room again.
func TestKeepTellsOfFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a small disk is mounted, which needs root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	said := make(chan string, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		Keep(ctx, Config{State: disk, euid: func() int { return 1 }, Say: func(s string) {
			if !strings.Contains(s, "-local") { // nothing can be started here: not what this is about
				said <- s
			}
		}})
		close(ended)
	}()
	fill := filepath.Join(disk, "fill")
	if err := os.WriteFile(fill, make([]byte, 6<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := <-said; !strings.Contains(s, "is full") || !strings.Contains(s, disk) {
		t.Errorf("said %q", s)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if s := <-said; !strings.Contains(s, "room again") {
		t.Errorf("said %q", s)
	}
	cancel()
	<-ended
	if len(said) > 0 {
		t.Errorf("said, too: %q", <-said)
	}
}
